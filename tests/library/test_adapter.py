"""What the library promises to an app, against a real TLS Redis."""

import asyncio
import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from resonance.adapter import AsyncResonanceStorageAdapter, NotSaved, ResonanceStorageAdapter
from resonance.model.durability import Durability
from resonance.model.errors import InvalidInput, StateNotUnderstood, StoreError, StoreRefused, StoreUnreachable
from resonance.model.report import Outcome
from resonance.testing import MemoryKeyspace
from tests.apps.process import eventually
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis
NETWORK: dict[str, Any] = {
    "nodes": {"a": {"phase": 0.1}, "b": {"phase": 0.2}},
    "fields": {"f": {"strength": 0.5}},
    "patterns": {},
    "metrics": {"tick": 1},
}


@pytest.fixture(scope="module")
def server() -> Iterator[TlsRedis]:
    with TlsRedis() as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(server: TlsRedis) -> None:
    server.admin().flushall()


def settings(server: TlsRedis) -> dict[str, Any]:
    secret = server.secret
    return {"password": secret["password"], "username": secret["username"], "ca": secret["ca.crt"]}


def adapter(server: TlsRedis, registry: CollectorRegistry | None = None) -> ResonanceStorageAdapter:
    return ResonanceStorageAdapter(
        server.secret["url"], **settings(server), registry=registry if registry is not None else CollectorRegistry()
    )


def test_a_level_is_asked_for_and_what_was_reached_is_said(server: TlsRedis) -> None:
    registry = CollectorRegistry()
    url, level = server.secret["url"], Durability.REPLICA
    with ResonanceStorageAdapter(url, **settings(server), durability=level, registry=registry) as alone:
        saved = alone.save_snapshot(NETWORK)
    assert (saved.outcome, saved.durability) == (Outcome.SAVED_UNREPLICATED, Durability.MEMORY)


def test_a_store_that_went_back_is_logged_and_saved_anew(caplog: pytest.LogCaptureFixture) -> None:
    keyspace = MemoryKeyspace()
    with ResonanceStorageAdapter.over(keyspace, registry=CollectorRegistry()) as by:
        by.save_snapshot(NETWORK)
        lagging = copy.deepcopy(keyspace.data)
        lost = by.save_snapshot({**NETWORK, "metrics": {"tick": 2}})
        keyspace.data = lagging
        assert by.save_snapshot({**NETWORK, "metrics": {"tick": 3}}).outcome is Outcome.SAVED
        logged = [each for each in caplog.records if each.message == "acknowledged_snapshots_lost"]
        assert [lost.id in vars(each)["reason"] for each in logged] == [True]
        assert by.restore_snapshot() == {**NETWORK, "metrics": {"tick": 3}}


def test_a_mounted_secret_that_changed_is_used_without_a_restart(tmp_path: Path) -> None:
    with TlsRedis() as own:

        def mount(secret: Mapping[str, str]) -> None:
            for name, text in secret.items():
                (tmp_path / name).write_text(text)

        mount(own.secret)
        with ResonanceStorageAdapter.from_secret(tmp_path, registry=CollectorRegistry()) as by:
            by.save_snapshot(NETWORK)
            own.admin().acl_setuser("resonance", enabled=True, reset_passwords=True, passwords=["+new"])
            own.admin().client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(StoreError):
                by.save_snapshot({"nodes": {}})
            (tmp_path / "ca.crt").unlink()  # half-way through the change
            with pytest.raises(StoreRefused, match=r"ca\.crt"):
                by.save_snapshot({"nodes": {}})
            mount({**own.secret, "password": "new"})
            assert by.save_snapshot({"nodes": {}}).outcome is Outcome.SAVED


def test_a_restored_process_goes_on_where_the_saved_one_was(server: TlsRedis) -> None:
    with adapter(server) as first:
        assert first.restore_snapshot() is None
        saved = first.save_snapshot(NETWORK)
        assert (saved.seq, saved.outcome) == (1, Outcome.SAVED)
    with adapter(server) as second:
        assert second.restore_snapshot() == NETWORK
        assert second.save_snapshot({**NETWORK, "metrics": {"tick": 2}}).seq == 2


def test_the_keys_are_readable_by_their_plain_names(server: TlsRedis) -> None:
    with adapter(server) as saver:
        saver.save_snapshot(NETWORK)
    admin = server.admin()
    assert admin.hget("resonance:nodes", "a") == b'{"phase":0.1}'
    assert admin.hget("resonance:fields", "f") == b'{"strength":0.5}'
    assert admin.get("resonance:metrics") == b'{"tick":1}'
    assert admin.llen("resonance:snapshots") == 1


def test_a_process_that_did_not_restore_cannot_replace_what_is_there(server: TlsRedis) -> None:
    with adapter(server) as first:
        first.save_snapshot(NETWORK)
    with adapter(server) as careless, pytest.raises(NotSaved, match="restore_snapshot first") as caught:
        careless.save_snapshot({"nodes": {}})
    assert caught.value.outcome is Outcome.QUARANTINED
    with adapter(server) as careful:
        assert careful.restore_snapshot() == NETWORK


def test_a_process_that_was_replaced_cannot_save_any_more(server: TlsRedis) -> None:
    with adapter(server) as old, adapter(server) as new:
        old.save_snapshot(NETWORK)
        new.restore_snapshot()
        new.save_snapshot({**NETWORK, "metrics": {"tick": 5}})
        with pytest.raises(NotSaved, match="another process has taken over"):
            old.save_snapshot({**NETWORK, "metrics": {"tick": 99}})
        assert new.restore_snapshot() == {**NETWORK, "metrics": {"tick": 5}}


def test_an_unchanged_state_writes_nothing(server: TlsRedis) -> None:
    with adapter(server) as saver:
        saver.save_snapshot(NETWORK)
        assert not saver.save_snapshot(NETWORK).changed
    assert server.admin().llen("resonance:snapshots") == 1


def test_a_snapshot_is_given_by_id_by_number_and_by_time_and_never_another_one(server: TlsRedis) -> None:
    with adapter(server) as saver:
        first = saver.save_snapshot(NETWORK)
        eventually(lambda: datetime.now(UTC) > first.taken_at + timedelta(milliseconds=1))
        saver.save_snapshot({**NETWORK, "metrics": {"tick": 2}})
        assert saver.restore_snapshot(snapshot=first.id) == NETWORK
        assert saver.restore_snapshot(seq=1) == NETWORK
        assert saver.restore_snapshot(as_of=first.taken_at) == NETWORK
        for which in ({"snapshot": "x.9"}, {"seq": 9}, {"as_of": datetime(2001, 1, 1, tzinfo=UTC)}):
            with pytest.raises(InvalidInput, match="no intact snapshot"):
                saver.restore_snapshot(**which)


def test_the_state_is_merged_into_the_callers_own_dicts(server: TlsRedis) -> None:
    with adapter(server) as saver:
        saver.save_snapshot(NETWORK)
        nodes: dict[str, Any] = {"a": {"phase": 9}, "z": {"phase": 3}}
        mine: dict[str, Any] = {"nodes": nodes}
        saver.restore_snapshot(into=mine)
    assert mine["nodes"] is nodes
    assert nodes == {"a": {"phase": 0.1}, "b": {"phase": 0.2}, "z": {"phase": 3}}
    assert mine["metrics"] == {"tick": 1}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused_with_the_place(server: TlsRedis, bad: float) -> None:
    with adapter(server) as saver, pytest.raises(StateNotUnderstood, match=r"state\.nodes\.a\.phase"):
        saver.save_snapshot({"nodes": {"a": {"phase": bad}}})


def test_saves_are_counted_by_outcome_and_timed(server: TlsRedis) -> None:
    registry = CollectorRegistry()
    with adapter(server, registry) as saver:
        saver.save_snapshot(NETWORK)
        saver.save_snapshot(NETWORK)
    value = registry.get_sample_value
    assert value("resonance_snapshot_saves_total", {"outcome": "Saved"}) == 1
    assert value("resonance_snapshot_saves_total", {"outcome": "Unchanged"}) == 1
    assert (value("resonance_snapshot_last_duration_ms") or 0) > 0


def test_health_says_what_is_wrong_and_what_to_do(server: TlsRedis) -> None:
    with adapter(server) as saver:
        good = saver.health_check()
        assert (good.reachable, good.safe, good.reasons) == (True, True, ())
        server.admin().config_set("maxmemory-policy", "allkeys-lru")
        bad = saver.health_check()
        server.admin().config_set("maxmemory-policy", "noeviction")
    assert not bad.safe
    assert "noeviction" in bad.reasons[0]


def test_an_unreachable_redis_is_an_error_that_names_it_and_is_logged(
    server: TlsRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with TlsRedis() as own:
        saver = adapter(own)
        saver.save_snapshot(NETWORK)
        own.kill()
        with pytest.raises(StoreUnreachable, match=f"localhost:{own.port}"):
            saver.save_snapshot({"nodes": {}})
        assert not saver.health_check().reachable
        saver.close()
        assert own.password not in caplog.text
    assert "snapshot_not_saved" in caplog.text


def test_states_are_saved_periodically_until_close(server: TlsRedis) -> None:
    ticks = iter(range(10_000))
    saver = adapter(server)
    saver.save_every(timedelta(milliseconds=10), lambda: {"metrics": {"tick": next(ticks)}})
    eventually(lambda: server.admin().llen("resonance:snapshots") >= 3)
    with pytest.raises(InvalidInput, match="running already"):
        saver.save_every(timedelta(seconds=1), lambda: NETWORK)
    saver.close()


PROGRAM = """
import os, sys, time
from resonance.adapter import ResonanceStorageAdapter
secret = {"username": "resonance", "password": os.environ["PASSWORD"], "ca": os.environ["CA"]}
saver = ResonanceStorageAdapter(os.environ["URL"], **secret)
saver.save_on_exit(lambda: {"metrics": {"last": sys.argv[1]}})
print("ready", flush=True)
if sys.argv[1] == "signal":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["signal", "return"])
def test_the_last_state_is_saved_when_the_process_ends(server: TlsRedis, how: str) -> None:
    secret = server.secret
    environment = {**os.environ, "URL": secret["url"], "PASSWORD": secret["password"], "CA": secret["ca.crt"]}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if how == "signal":
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == (143 if how == "signal" else 0)
    assert server.admin().get("resonance:metrics") == f'{{"last":"{how}"}}'.encode()


def test_the_asyncio_face_does_the_same_beside_a_running_loop(server: TlsRedis) -> None:
    async def story() -> None:
        async with AsyncResonanceStorageAdapter(
            server.secret["url"], **settings(server), registry=CollectorRegistry()
        ) as saver:
            assert await saver.restore_snapshot() is None
            await saver.save_snapshot(NETWORK)
            mine: dict[str, Any] = {}
            assert await saver.restore_snapshot(mine) == NETWORK
            assert mine == NETWORK
            assert (await saver.health_check()).safe
            ticks = iter(range(10_000))
            saved = asyncio.Event()
            ticks = iter(range(10_000))

            def state() -> dict[str, Any]:
                tick = next(ticks)
                if tick == 3:
                    saved.set()
                return {"metrics": {"tick": tick}}

            saver.save_every(timedelta(milliseconds=5), state)
            await saved.wait()
        assert server.admin().llen("resonance:snapshots") >= 3

    asyncio.run(asyncio.wait_for(story(), 20))
