"""Appending to and restoring one member: the same promises in memory and on a real TLS Redis."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from resonance.codec import encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.errors import StoreUnreachable
from resonance.model.manifest import Manifest
from resonance.model.naming import WorkloadKeys, workload_keys
from resonance.model.report import Outcome
from resonance.model.retention import DEFAULT
from resonance.model.state import State, digest
from resonance.store.aside import KEPT, parse_asides
from resonance.store.keyspace import Hash, Keyspace
from resonance.store.member import Member, load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore
from resonance.testing import MemoryKeyspace
from tests.redis_server import TlsRedis

KEYS: WorkloadKeys = workload_keys("resonance", "shop", "web", "StatefulSet.web")
MEMBER = Member("web-0", KEYS.member("web-0"), None)
MAX_BYTES = 64 << 20


def state(size: int = 20, mark: int = 0, pad: int = 0) -> State:
    nodes = {f"n{index}": b'{"phase":%d,"pad":"%s"}' % (index, b"x" * pad) for index in range(size)}
    return State({"nodes": nodes, "fields": {}}, b'{"tick":%d}' % mark)


def writer(keyspace: Keyspace, uid: str = "pod-a", epoch: int = 1, files: Mapping[str, str] | None = None) -> Writer:
    made = Writer(keyspace, MEMBER, uid=uid, pod="web-0", epoch=epoch, files=files or {})
    made.learn()
    return made


FOUNDER = Proof("p1", None)


def save(by: Writer, what: State, proof: Proof | None = FOUNDER) -> Outcome:
    capture = by.prepare(encode_state(what), proof, taken_at_ms=1)
    return by.commit(capture).outcome


def given(keyspace: Keyspace, manifest: Manifest) -> State:
    found = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES, wanted=manifest.__eq__)
    assert found is not None
    return found.state


def newest(keyspace: Keyspace) -> State:
    found = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES)
    assert found is not None
    return found.state


@pytest.mark.parametrize(("size", "pad"), [(0, 0), (5, 0), (2_000, 400), (40, 30_000)])
def test_what_was_saved_is_restored_exactly(keyspace: Keyspace, size: int, pad: int) -> None:
    assert save(writer(keyspace), state(size, pad=pad)) is Outcome.SAVED
    found = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES)
    assert found is not None
    assert (found.state, found.used, found.skipped) == (state(size, pad=pad), "blobs", ())


def test_a_hundred_changes_each_restore_from_live_state_and_the_last_sixty_from_blobs(keyspace: Keyspace) -> None:
    chance = random.Random(4)
    by = writer(keyspace)
    saved: dict[int, State] = {}
    now = state(300, pad=50)
    for mark in range(100):
        nodes = dict(now.kinds["nodes"])
        for _ in range(chance.choice([0, 1, 3, 250])):
            nodes[f"n{chance.randrange(330)}"] = b'{"phase":%d}' % chance.randrange(10**9)
        for key in chance.sample(sorted(nodes), chance.choice([0, 0, 2])):
            del nodes[key]
        now = State({"nodes": nodes, "extra": {}} if mark % 7 == 0 else {"nodes": nodes}, b'{"tick":%d}' % mark)
        assert save(by, now) is Outcome.SAVED
        saved[load(keyspace, MEMBER).record.head.seq] = now  # type: ignore[union-attr]
        assert newest(keyspace) == now
    record = load(keyspace, MEMBER).record
    assert len(record.recent) == DEFAULT.recent
    assert [given(keyspace, each) for each in record.recent] == [saved[each.seq] for each in record.recent]


def test_no_blob_outlives_the_snapshots_that_need_it(server: TlsRedis) -> None:
    admin = server.admin()
    admin.flushall()
    keyspace = RedisKeyspace(server.settings)
    by = writer(keyspace)
    for mark in range(2 * DEFAULT.recent + 10):
        save(by, state(30, mark))
    needed = {
        (MEMBER.keys.delta if place else MEMBER.keys.base)(seq).encode()
        for manifest in load(keyspace, MEMBER).record.all()
        for place, seq in enumerate(manifest.chain)
    }
    stored = set(admin.scan_iter(f"{MEMBER.keys.root}:base:*")) | set(admin.scan_iter(f"{MEMBER.keys.root}:delta:*"))
    assert stored == needed
    assert not list(admin.scan_iter("*:stage:*"))


def test_an_unchanged_state_is_not_written_again(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    save(by, state())
    before = load(keyspace, MEMBER)
    assert save(by, state()) is Outcome.UNCHANGED
    assert load(keyspace, MEMBER) == before


def test_a_lost_reply_neither_loses_nor_doubles_the_snapshot() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    save(by, state(mark=1))
    capture = by.prepare(encode_state(state(mark=2)), Proof("p1", None), taken_at_ms=1)
    keyspace.lose_replies = 1
    with pytest.raises(StoreUnreachable):
        by.commit(capture)
    assert by.commit(capture).outcome is Outcome.SAVED
    assert [each.seq for each in load(keyspace, MEMBER).record.recent] == [2, 1]
    assert newest(keyspace) == state(mark=2)


def test_a_newer_capture_after_a_lost_reply_is_taken_again_and_becomes_head() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    save(by, state(mark=1))
    lost = by.prepare(encode_state(state(mark=2)), Proof("p1", None), taken_at_ms=1)
    keyspace.lose_replies = 1
    with pytest.raises(StoreUnreachable):
        by.commit(lost)
    assert save(by, state(mark=3)) is Outcome.CONFLICT
    assert save(by, state(mark=3)) is Outcome.SAVED
    record = load(keyspace, MEMBER).record
    assert [each.seq for each in record.recent] == [4, 2, 1]
    assert not record.kept


def test_a_fenced_pod_cannot_overwrite_its_successor(keyspace: Keyspace) -> None:
    old, new = writer(keyspace), writer(keyspace, "pod-b", 2)
    save(old, state(mark=1))
    head = load(keyspace, MEMBER).record.head
    assert head is not None
    new = writer(keyspace, "pod-b", 2, {head.manifest.id: head.commit})
    assert save(new, state(mark=2), Proof("p2", head.manifest.id)) is Outcome.SAVED
    assert save(old, state(mark=99)) is Outcome.SUPERSEDED
    assert newest(keyspace) == state(mark=2)
    assert not load(keyspace, MEMBER).record.kept


def test_of_superseded_pods_the_newest_eight_are_kept_aside_and_what_they_did_alone_is_known(
    keyspace: Keyspace,
) -> None:
    olds = [writer(keyspace, f"old-{index}", index + 1) for index in range(KEPT + 2)]
    head = None
    for index, old in enumerate(olds):
        proof = FOUNDER if head is None else Proof(f"p{index}", head.manifest.id)
        old.files.update({} if head is None else {head.manifest.id: head.commit})
        old.reconnected()
        by = writer(keyspace, f"old-{index}", index + 1, old.files)
        olds[index] = by
        capture = by.prepare(encode_state(state(mark=index)), proof, taken_at_ms=1_000 * index)
        assert by.commit(capture).outcome is Outcome.SAVED
        head = load(keyspace, MEMBER).record.head
    for index, old in enumerate(olds[:-1]):
        capture = old.prepare(encode_state(state(mark=100 + index)), FOUNDER, taken_at_ms=50_000 + index)
        assert old.commit(capture).outcome is Outcome.SUPERSEDED
    aside = parse_asides(keyspace.read([Hash(MEMBER.keys.aside)]).hash(0), where="x")
    assert [each.uid for each in aside] == [f"old-{index}" for index in range(KEPT, 0, -1)]
    assert [each.gap_ms for each in aside] == [50_000 + index - 1_000 * index for index in range(KEPT, 0, -1)]
    assert keyspace.read([Hash(MEMBER.keys.tip("old-0"))]).hash(0) == {}
    assert keyspace.read([Hash(MEMBER.keys.tip("old-1"))]).hash(0)


def test_an_empty_process_is_put_in_quarantine_and_never_becomes_head(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    save(by, state(mark=1))
    again = writer(keyspace)
    capture = again.prepare(encode_state(State({"nodes": {}}, b"{}")), Proof("empty", None), taken_at_ms=1)
    assert capture.suspect
    assert again.commit(capture).outcome is Outcome.QUARANTINED
    assert newest(keyspace) == state(mark=1)


def test_a_state_that_does_not_descend_from_the_head_keeps_it_as_a_tip(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    save(by, state(mark=1))
    first = load(keyspace, MEMBER).record.head
    save(by, state(mark=2))
    second = load(keyspace, MEMBER).record.head
    assert first is not None
    assert second is not None
    older = writer(keyspace, files={first.manifest.id: first.commit})
    assert save(older, state(mark=9), Proof("p2", first.manifest.id)) is Outcome.SAVED
    kept = load(keyspace, MEMBER).record.kept
    assert [(seq, each.kept_as) for seq, each in kept.items()] == [(second.seq, ("tip",))]


def test_tips_are_bounded_and_each_eviction_is_reported(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    save(by, state(mark=0))
    evicted = 0
    for mark in range(1, DEFAULT.tips + 4):
        by = writer(keyspace)
        capture = by.prepare(encode_state(state(mark=mark)), None, taken_at_ms=1)
        evicted += len(by.commit(capture).evicted_tips)
    assert len(load(keyspace, MEMBER).record.kept) == DEFAULT.tips
    assert evicted == 3


def test_damage_is_named_and_the_newest_intact_snapshot_is_given(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    for mark in range(1, 4):
        save(by, state(mark=mark))
    record = load(keyspace, MEMBER).record
    newest_blob, live = record.recent[0].chain[-1], MEMBER.keys.live("nodes")
    keyspace.apply([], [("UNLINK", MEMBER.keys.delta(newest_blob), MEMBER.keys.base(newest_blob))])
    whole = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES)
    assert whole is not None
    assert (whole.used, whole.state) == ("live", state(mark=3))
    keyspace.apply([], [("HSET", live, "n0", b'{"phase":1000}')])
    older = restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES)
    assert older is not None
    assert older.state == state(mark=2)
    assert len(older.skipped) == 2
    assert "missing" in older.skipped[0]


def test_nothing_is_given_when_nothing_verifies(keyspace: Keyspace) -> None:
    save(writer(keyspace), state(mark=1))
    seq = load(keyspace, MEMBER).record.recent[0].seq
    keyspace.apply([], [("UNLINK", MEMBER.keys.base(seq)), ("UNLINK", MEMBER.keys.live("nodes"))])
    assert restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES) is None


def test_a_snapshot_of_an_earlier_line_stays_a_known_line(keyspace: Keyspace) -> None:
    save(writer(keyspace), state(mark=1))
    record = load(keyspace, MEMBER).record
    assert record.lines == {"p1"}
    assert record.head is not None
    assert record.head.manifest.digest == digest(state(mark=1))
    assert replace(record.head.manifest, kept_as=("tip",)).id == "p1.1"


def shown(keyspace: Keyspace) -> dict[bytes, bytes]:
    """What a person reads with HGETALL."""
    return keyspace.read([Hash(MEMBER.keys.live("nodes"))]).hash(0)


def test_a_large_state_is_acknowledged_first_and_then_readable(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    large = state(2_000, pad=400)
    assert save(by, large) is Outcome.SAVED
    assert shown(keyspace) == {}
    assert newest(keyspace) == large
    by.settle()
    assert shown(keyspace) == {key.encode(): raw for key, raw in large.kinds["nodes"].items()}
    settled = load(keyspace, MEMBER)
    by.settle()
    assert load(keyspace, MEMBER) == settled


def test_a_writer_that_dies_before_the_copy_is_readable_loses_nothing_and_its_successor_catches_up(
    keyspace: Keyspace,
) -> None:
    save(writer(keyspace), state(2_000, pad=400))
    by = writer(keyspace)
    assert save(by, state(2_000, mark=1, pad=400)) is Outcome.SAVED
    changed = State(
        {**state(2_000, pad=400).kinds, "nodes": {**state(2_000, pad=400).kinds["nodes"], "n7": b"{}"}}, b"{}"
    )
    assert save(by, changed) is Outcome.SAVED
    assert newest(keyspace) == changed
    assert shown(keyspace) == {}
    by.settle()
    assert shown(keyspace)[b"n7"] == b"{}"


def test_the_readable_copy_of_an_older_snapshot_is_never_taken_for_the_head(keyspace: Keyspace) -> None:
    by = writer(keyspace)
    save(by, state(2_000, pad=400))
    by.settle()
    again = writer(keyspace)
    save(again, state(2_000, mark=1, pad=400))
    record = load(keyspace, MEMBER).record
    keyspace.apply([], [("UNLINK", MEMBER.keys.base(each.seq)) for each in record.recent])
    assert restore(keyspace, MEMBER, load(keyspace, MEMBER), max_bytes=MAX_BYTES) is None


def test_the_readable_copy_is_left_alone_when_another_writer_has_moved_the_head(keyspace: Keyspace) -> None:
    old = writer(keyspace)
    save(old, state(2_000, pad=400))
    head = load(keyspace, MEMBER).record.head
    assert head is not None
    new = writer(keyspace, "pod-b", 2, {head.manifest.id: head.commit})
    save(new, state(5, mark=2), Proof("p2", head.manifest.id))
    old.settle()
    assert len(shown(keyspace)) == 5
