"""Replies that never come, requests cut at any byte, answers later than the client's patience: over real TLS.

The history must end right: each capture once, in order, and nothing half.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence

import pytest

from resonance.codec import encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.errors import StoreUnreachable
from resonance.model.manifest import Manifest
from resonance.model.report import GOOD, Outcome
from resonance.model.retention import Retention
from resonance.model.state import State
from resonance.store.connection import ANSWER_TIMEOUT_S
from resonance.store.live import STAGE_TTL_S
from resonance.store.member import load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore
from tests.faults.dump import dump
from tests.faults.proxy import Blow, FaultProxy, Harm
from tests.faults.world import MAX_BYTES, MEMBER
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis

LOST_REPLIES = 500
CUTS = 60
KEPT = 50
LIMITS = Retention(recent=KEPT, hourly=0, daily=0)
FOUNDER = Proof("founder", None)


@pytest.fixture
def proxy(server: TlsRedis) -> Iterator[FaultProxy]:
    server.admin().flushall()
    with FaultProxy(server.port) as running:
        yield running


@pytest.fixture
def far(server: TlsRedis, proxy: FaultProxy) -> Iterator[RedisKeyspace]:
    """The store as seen through the proxy."""
    keyspace = RedisKeyspace(server.changed({"url": f"rediss://localhost:{proxy.port}"}))
    yield keyspace
    keyspace.close()


@pytest.fixture
def near(server: TlsRedis) -> Iterator[RedisKeyspace]:
    """The store itself."""
    keyspace = RedisKeyspace(server.settings)
    yield keyspace
    keyspace.close()


def writer(keyspace: RedisKeyspace) -> Writer:
    made = Writer(keyspace, MEMBER, uid="pod", pod="web-0", epoch=1, files={}, limits=LIMITS)
    made.learn()
    return made


def state(mark: int, pad: bytes = b"") -> State:
    nodes = {f"n{each}": b'{"phase":%d,"pad":"%s"}' % (mark if each == mark % 20 else 0, pad) for each in range(20)}
    return State({"nodes": nodes}, b'{"tick":%d}' % mark)


def save(by: Writer, what: State) -> Outcome:
    """One turn: what the records say, a capture, a commit."""
    by.learn()
    mark = json.loads(what.metrics or b"")["tick"]
    return by.commit(by.prepare(encode_state(what), FOUNDER, taken_at_ms=mark)).outcome


def save_at_last(by: Writer, what: State) -> Outcome:
    """The turns that an agent would make until one is no conflict."""
    outcome = Outcome.CONFLICT
    for _ in range(3):
        outcome = save(by, what)
        if outcome is not Outcome.CONFLICT:
            break
    return outcome


def restored(keyspace: RedisKeyspace, manifest: Manifest | None = None) -> State:
    wanted = None if manifest is None else manifest.__eq__
    found = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES, wanted=wanted)
    assert found is not None
    assert not found.skipped
    return found.state


def test_five_hundred_commits_whose_reply_is_lost_are_each_there_once(
    proxy: FaultProxy, far: RedisKeyspace, near: RedisKeyspace
) -> None:
    by = writer(far)
    assert by.commit(by.prepare(encode_state(state(0)), FOUNDER, taken_at_ms=0)).outcome is Outcome.SAVED
    for mark in range(1, LOST_REPLIES + 1):
        capture = by.prepare(encode_state(state(mark)), FOUNDER, taken_at_ms=mark)
        proxy.arm(Blow(Harm.DROP_REPLY))
        with pytest.raises(StoreUnreachable):
            by.commit(capture)
        assert by.commit(capture).outcome is Outcome.SAVED
        if mark % KEPT == 0:
            assert_history(near, range(mark + 1))
    assert proxy.struck == LOST_REPLIES


def assert_history(keyspace: RedisKeyspace, marks: Sequence[int]) -> None:
    """The newest snapshots are those of the last marks, in their order, none twice, each as it was saved."""
    record = load(keyspace, MEMBER).record
    assert [each.taken_at_ms for each in reversed(record.recent)] == list(marks)[-KEPT:]
    assert not record.kept
    for each in record.recent:
        assert restored(keyspace, each) == state(each.taken_at_ms)


def test_a_newer_capture_after_a_lost_reply_comes_after_the_lost_one(
    proxy: FaultProxy, far: RedisKeyspace, near: RedisKeyspace
) -> None:
    by = writer(far)
    for mark in range(KEPT):
        proxy.arm(Blow(Harm.DROP_REPLY))
        with pytest.raises(StoreUnreachable):
            save(by, state(2 * mark))
        assert save_at_last(by, state(2 * mark + 1)) is Outcome.SAVED
        proxy.disarm()
    assert_history(near, range(2 * KEPT))


@pytest.mark.parametrize("wide", [0, 20_000], ids=["inline", "staged"])
def test_a_commit_cut_at_any_byte_is_whole_or_absent_and_leaves_nothing_that_lasts(
    wide: int, proxy: FaultProxy, far: RedisKeyspace, near: RedisKeyspace, server: TlsRedis
) -> None:
    chance = random.Random(wide)
    pads = [chance.randbytes(wide).hex().encode() for _ in range(20)]
    by = writer(far)
    assert save(by, wide_state(0, pads)) is Outcome.SAVED
    before, size = wide_state(0, pads), 0
    for mark in range(1, CUTS + 1):
        now = wide_state(mark, pads)
        proxy.arm(Blow(Harm.CUT_REQUEST, chance.randrange(size) if size else 1 << 30))
        began = proxy.requested
        try:
            outcome = save_at_last(by, now)
        except StoreUnreachable:
            assert restored(near) in (before, now)
            by = by if mark % 2 else writer(far)
            proxy.disarm()
            outcome = save_at_last(by, now)
        size = size or proxy.requested - began
        assert outcome in GOOD
        assert restored(near) == now
        before = now
    assert proxy.struck > CUTS // 2
    stages = [key for key in dump(server.admin()) if ":stage:" in key]
    assert [key for key in stages if not 0 < server.admin().ttl(key) <= STAGE_TTL_S] == []


def wide_state(mark: int, pads: Sequence[bytes]) -> State:
    """A state of which each entry changes with the mark."""
    nodes = {f"n{at}": b'{"phase":%d,"pad":"%s"}' % (mark, pad) for at, pad in enumerate(pads)}
    return State({"nodes": nodes}, b'{"tick":%d}' % mark)


def test_an_answer_later_than_the_patience_of_the_client_is_an_unknown_end_and_a_retry_tells(
    proxy: FaultProxy, far: RedisKeyspace, near: RedisKeyspace
) -> None:
    by = writer(far)
    assert save(by, state(0)) is Outcome.SAVED
    capture = by.prepare(encode_state(state(1)), FOUNDER, taken_at_ms=1)
    began = time.monotonic()
    proxy.arm(Blow(Harm.HOLD_REPLY))
    with pytest.raises(StoreUnreachable, match="does not answer"):
        by.commit(capture)
    assert ANSWER_TIMEOUT_S <= time.monotonic() - began < 2 * ANSWER_TIMEOUT_S
    assert restored(near) == state(1)
    assert by.commit(capture).outcome is Outcome.SAVED
    assert_history(near, range(2))
