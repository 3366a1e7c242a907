"""Keys that were evicted, cut, tampered with, or replaced by another type, one at a time, each while a writer lives.

Noticed and named; the newest intact snapshot is restored; the commits that follow heal it or say clearly what is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis

from resonance.adapter import ResonanceStorageAdapter
from resonance.codec import encode_state
from resonance.engine.starting import give
from resonance.engine.writer import Writer
from resonance.model.claim import Claimant, Identity, Wait
from resonance.model.commit import Proof
from resonance.model.errors import StoreDamaged
from resonance.model.report import GOOD, Outcome
from resonance.model.restore import CannotTell, Unknown
from resonance.model.retention import Retention
from resonance.model.state import State
from resonance.store.catalogue import pin
from resonance.store.keyspace import Keyspace
from resonance.store.member import load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import Restored, restore
from resonance.store.workload import claim
from tests.faults.dump import dump
from tests.faults.world import KEYS, MAX_BYTES, MEMBER
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis

P = MEMBER.keys
PROOF = Proof("founder", None)
SAVED = 5
NOISE = b'{"pad":"%s"}' % random.Random(9).randbytes(4_000).hex().encode()
"""Nothing compresses it, so that the base outweighs the deltas and they stay on it."""
LIMITS = Retention(recent=3, hourly=0, daily=0)


def state(mark: int) -> State:
    nodes = {f"n{each}": b'{"phase":%d}' % (mark if each == mark % 9 else -each) for each in range(40)}
    return State({"nodes": nodes, "fields": {"f": NOISE}}, b'{"mark":%d}' % mark)


@dataclass(frozen=True, slots=True)
class Scene:
    """Five snapshots (a base and four deltas; three are recent, the first is pinned) and their writer, still alive."""

    admin: redis.Redis
    keyspace: Keyspace
    writer: Writer

    def save(self, mark: int) -> Outcome:
        """One turn."""
        self.writer.learn()
        return self.writer.commit(self.writer.prepare(encode_state(state(mark)), PROOF, taken_at_ms=mark)).outcome

    def restored(self) -> Restored | None:
        return restore(self.keyspace, MEMBER, load(self.keyspace, MEMBER), max_bytes=MAX_BYTES)


def writer(keyspace: Keyspace, epoch: int) -> Writer:
    return Writer(keyspace, MEMBER, uid="pod", pod="web-0", epoch=epoch, files={}, limits=LIMITS)


@pytest.fixture
def scene(server: TlsRedis) -> Iterator[Scene]:
    server.admin().flushall()
    keyspace = RedisKeyspace(server.settings)
    taken = claim(keyspace, KEYS, Claimant("pod", "web-0", "t", Identity.POD_NAME, MEMBER.name))
    assert not isinstance(taken, Wait)
    made = Scene(server.admin(), keyspace, writer(keyspace, taken.epoch))
    assert made.save(1) in GOOD
    pin(keyspace, MEMBER, 1)
    made = Scene(server.admin(), keyspace, writer(keyspace, taken.epoch))
    for mark in range(2, SAVED + 1):
        assert made.save(mark) in GOOD
    assert [len(each.chain) for each in load(keyspace, MEMBER).record.recent] == [4, 3, 2]
    yield made
    keyspace.close()


Damage = Callable[[redis.Redis, str], None]


def evict(admin: redis.Redis, key: str) -> None:
    admin.delete(key)


def cut(admin: redis.Redis, key: str) -> None:
    """Half of it: of a string, of a list, or of a hash's longest value."""
    match dump(admin)[key]:
        case bytes(text):
            admin.set(key, text[: len(text) // 2])
        case list(items):
            admin.ltrim(key, len(items) // 2, -1)
        case dict(fields):
            name = max(fields, key=lambda each: len(fields[each]))
            admin.hset(key, name, fields[name][: len(fields[name]) // 2])


def tamper(admin: redis.Redis, key: str) -> None:
    """Another byte in the middle of a string or of a hash's longest value; another record in a list."""
    match dump(admin)[key]:
        case bytes(text):
            admin.setrange(key, len(text) // 2, bytes([text[len(text) // 2] ^ 1]).decode("latin-1"))
        case list():
            admin.lset(key, 0, '{"v":1,"seq":"x"}')
        case dict(fields):
            name = max(fields, key=lambda each: len(fields[each]))
            half = len(fields[name]) // 2
            admin.hset(key, name, fields[name][:half] + b"~" + fields[name][half + 1 :])


def retype(admin: redis.Redis, key: str) -> None:
    """Something else under its name."""
    was = dump(admin)[key]
    admin.delete(key)
    if isinstance(was, list):
        admin.set(key, "x")
    else:
        admin.lpush(key, "x")


WAYS = [evict, cut, tamper, retype]
BASE, DELTA, NEWEST = P.base(2), P.delta(4), P.delta(5)
"""The recent snapshots are 3, 4 and 5; their chain begins at 2, because the writer was a new one after the pin."""

BLOBS = {BASE, DELTA, NEWEST}
IN_PLACE = {*BLOBS, P.kept, P.live("nodes")}

CASES: list[tuple[str, int, bool]] = [
    # key, the newest mark that can be restored, whether the restore has something to name
    (P.head, 5, True),
    (P.snapshots, 5, True),
    (P.kept, 5, True),
    (P.live("nodes"), 5, False),  # a readable copy: no restore needs it while the blobs stand
    (P.metrics, 5, False),
    (BASE, 5, True),  # the live hashes still have the head
    (DELTA, 5, True),
    (NEWEST, 5, True),
    (P.report, 5, False),
    (KEYS.policy, 5, False),
    (KEYS.waiting, 5, False),
]


@pytest.mark.parametrize("way", WAYS, ids=[each.__name__ for each in WAYS])
@pytest.mark.parametrize(("key", "mark", "named"), CASES, ids=[each[0].rpartition("}:")[2] for each in CASES])
def test_damage_is_named_survived_and_healed_by_the_commits_that_follow(
    scene: Scene, way: Damage, key: str, mark: int, named: bool
) -> None:
    if not scene.admin.exists(key):
        scene.admin.hset(key, "outcome", "Saved") if key != KEYS.policy else scene.admin.set(key, "{}")
    way(scene.admin, key)
    found = scene.restored()
    assert found is not None
    assert found.state == state(mark)
    assert bool(found.skipped) is named
    assert not named or key in found.skipped[0]
    assert_healed(scene, key, way)


def assert_healed(scene: Scene, key: str, way: Damage) -> None:
    """Four turns later everything is whole again; only a head of another type stays, and is named each time.

    What was altered where it stands is invisible to a writer that lives; the next one writes a whole snapshot.
    """
    if key in (BLOBS if way is retype else IN_PLACE) and way is not evict:
        assert scene.save(50) in GOOD
        scene = Scene(scene.admin, scene.keyspace, writer(scene.keyspace, 1))
    outcomes: list[object] = []
    for mark in range(6, 10):
        try:
            outcomes.append(scene.save(mark))
        except StoreDamaged as error:
            outcomes.append(error)
    said = [str(each) for each in outcomes if isinstance(each, StoreDamaged)]
    assert [each for each in said if key not in each] == []
    if key == P.head and way is retype:
        assert ["Delete it" in each for each in said] == [True] * len(outcomes)
        return
    assert outcomes[-1] in GOOD, outcomes
    scene.writer.settle()
    record = load(scene.keyspace, MEMBER).record
    assert record.damage == ()
    assert len(record.recent) == LIMITS.recent
    found = scene.restored()
    assert found is not None
    assert (found.state, found.skipped) == (state(9), ())
    assert record.head is not None
    assert record.head.live == record.head.seq
    assert dump(scene.admin)[P.live("nodes")] == {k.encode(): v for k, v in state(9).kinds["nodes"].items()}
    assert dump(scene.admin)[P.metrics] == state(9).metrics


@pytest.mark.parametrize("key", [BASE, DELTA, NEWEST])
@pytest.mark.parametrize("way", WAYS, ids=[each.__name__ for each in WAYS])
def test_without_the_readable_hashes_the_newest_intact_snapshot_is_given_and_every_newer_one_named(
    scene: Scene, way: Damage, key: str
) -> None:
    scene.admin.hset(P.live("nodes"), "n0", '{"phase":77}')
    way(scene.admin, key)
    found = scene.restored()
    assert found is not None
    intact = {BASE: 1, DELTA: 3, NEWEST: 4}[key]
    assert found.state == state(intact)
    newer = [each for each in (5, 4, 3) if each > intact]
    assert [each.split(" ")[0] for each in found.skipped if "blobs" in each] == [f"founder.{each}" for each in newer]


def test_a_garbled_head_without_any_other_record_is_no_beginning(scene: Scene) -> None:
    scene.admin.delete(P.snapshots, P.kept)
    cut(scene.admin, P.head)
    fresh = writer(scene.keyspace, 9)
    fresh.learn()
    before = dump(scene.admin)
    with pytest.raises(StoreDamaged, match="head"):
        fresh.commit(fresh.prepare(encode_state(State({"nodes": {}})), Proof("empty", None), taken_at_ms=1))
    assert dump(scene.admin) == before
    assert scene.save(6) in GOOD | {Outcome.CONFLICT}
    assert scene.save(6) in GOOD


def test_a_starting_pod_cannot_tell_where_the_head_is_garbled(scene: Scene) -> None:
    scene.admin.delete(P.snapshots, P.kept, KEYS.slots)
    cut(scene.admin, P.head)
    taken = claim(scene.keyspace, KEYS, Claimant("new", "web-0", "t", Identity.POD_NAME, MEMBER.name))
    assert not isinstance(taken, Wait)
    start = give(scene.keyspace, KEYS, taken, file=None, max_bytes=MAX_BYTES)
    assert start.answer == CannotTell(Unknown.HEAD_LOST)


def test_the_library_says_that_it_cannot_restore_instead_of_nothing(server: TlsRedis) -> None:
    server.admin().flushall()
    keyspace = RedisKeyspace(server.settings)
    with ResonanceStorageAdapter.over(keyspace) as adapter:
        adapter.save_snapshot({"nodes": {"a": {"x": 1}}})
        server.admin().delete("resonance:snapshots")
        cut(server.admin(), "resonance:head")
        with pytest.raises(StoreDamaged, match="head"):
            adapter.restore_snapshot()


def test_a_slot_record_that_cannot_be_read_is_named_and_nothing_is_overwritten(scene: Scene) -> None:
    scene.admin.hset(KEYS.slots, MEMBER.name, "{")
    before = dump(scene.admin)
    with pytest.raises(StoreDamaged, match="slot web-0"):
        claim(scene.keyspace, KEYS, Claimant("new", "web-0", "t", Identity.POD_NAME, MEMBER.name))
    with pytest.raises(StoreDamaged, match="slot web-0"):
        load(scene.keyspace, MEMBER)
    assert dump(scene.admin) == before
