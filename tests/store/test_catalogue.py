"""Pins, the exception that a person grants, and what retention never drops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.codec import encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.errors import InvalidInput
from resonance.model.manifest import Head, Manifest, MemberRecord, keep
from resonance.model.report import Outcome
from resonance.model.retention import DAY, HOUR, PIN, TIP, Retention, append, blobs, stored_bytes
from resonance.store.catalogue import accept, pin, snapshots, unpin
from resonance.store.keyspace import Keyspace
from resonance.store.member import load
from tests.store.test_member import FOUNDER, MEMBER, save, state, writer
from tests.store.test_member import given as snapshot_given

HOUR_MS = 3_600_000


def test_a_pinned_snapshot_outlives_any_number_of_later_ones_although_the_writer_knew_nothing_of_the_pin(
    keyspace: Keyspace,
) -> None:
    by = Writer(keyspace, MEMBER, uid="a", pod="w", epoch=1, files={}, limits=Retention(recent=3, hourly=0, daily=0))
    save(by, state(mark=1))
    save(by, state(mark=2))
    pinned = pin(keyspace, MEMBER, 2)
    for mark in range(3, 70):
        assert save(by, state(mark=mark)) in {Outcome.SAVED, Outcome.CONFLICT}
    assert [each.seq for each in snapshots(keyspace, MEMBER)][-1] == pinned.seq
    assert snapshot_given(keyspace, load(keyspace, MEMBER).record.kept[2]) == state(mark=2)
    unpin(keyspace, MEMBER, 2)
    assert 2 not in {each.seq for each in snapshots(keyspace, MEMBER)}


@pytest.mark.parametrize("change", [pin, unpin])
def test_a_snapshot_that_is_not_kept_cannot_be_pinned(keyspace: Keyspace, change: object) -> None:
    with pytest.raises(InvalidInput, match="no snapshots yet"):
        pin(keyspace, MEMBER, 1)
    save(writer(keyspace), state())
    with pytest.raises(InvalidInput, match="no kept snapshot has this number"):
        change(keyspace, MEMBER, 9)  # type: ignore[operator]


def test_accept_lets_one_incarnation_in_once_and_keeps_the_old_head_as_a_tip(keyspace: Keyspace) -> None:
    save(writer(keyspace), state(mark=1))
    empty, other = Proof("empty", None), Proof("other", None)
    assert save(writer(keyspace), state(0), empty) is Outcome.QUARANTINED
    accept(keyspace, MEMBER, "empty")
    assert save(writer(keyspace), state(0), other) is Outcome.QUARANTINED
    assert save(writer(keyspace), state(0), empty) is Outcome.SAVED
    record = load(keyspace, MEMBER).record
    assert [each.kept_as for each in record.kept.values()] == [(TIP,)]
    assert save(writer(keyspace), state(0, mark=5), other) is Outcome.QUARANTINED


def test_nobody_needs_permission_for_a_first_snapshot(keyspace: Keyspace) -> None:
    with pytest.raises(InvalidInput, match="needs no permission"):
        accept(keyspace, MEMBER, "x")


def manifest(seq: int, at_ms: int, chain: tuple[int, ...]) -> Manifest:
    """A manifest of 10 stored bytes."""
    return Manifest(
        seq=seq,
        commit=f"c{seq}",
        line="l",
        parent=None,
        incarnation="l",
        digest="",
        counts={},
        state_bytes=1,
        stored_bytes=10,
        chain=chain,
        proof="",
        taken_at_ms=at_ms,
        writer="w",
        pod="p",
        epoch=1,
        base_bytes=10,
        deltas_bytes=10 * (len(chain) - 1),
    )


STEPS = st.lists(
    st.tuples(st.integers(0, 3 * HOUR_MS), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60
)
LIMITS = st.builds(
    Retention,
    recent=st.integers(1, 6),
    hourly=st.integers(0, 4),
    daily=st.integers(0, 3),
    tips=st.integers(1, 3),
    max_bytes=st.none() | st.integers(1, 300),
)


@given(STEPS, LIMITS)
def test_retention_keeps_what_it_must_and_no_more_than_it_may(
    steps: list[tuple[int, bool, bool, bool]], limits: Retention
) -> None:
    seen, at_ms, pinned = MemberRecord(), 0, set[int]()
    stored: set[tuple[str, int]] = set()
    for seq, (later, tip, rebase, pin_it) in enumerate(steps, 1):
        at_ms += later
        old = seen.head
        chain = (seq,) if rebase or old is None else (*old.manifest.chain, seq)
        stored.add(("base" if len(chain) == 1 else "delta", seq))
        after = append(seen, Head(1, "w", manifest(seq, at_ms, chain)), tip=tip, limits=limits)
        stored -= set(after.unneeded)
        seen = after.record
        if pin_it:
            pinned.add(seq)
            marked = manifest(seq, at_ms, chain)
            seen = MemberRecord(seen.head, seen.recent, {**seen.kept, seq: keep_pin(marked)})
        assert seen.head is not None
        assert seen.head.seq == seq == seen.recent[0].seq
        assert pinned <= {each.seq for each in seen.all()}
        assert blobs(seen) == stored
        if tip and old is not None and limits.tips > 0:
            assert old.seq in {each.seq for each in seen.all()}
        reasons = [reason for each in seen.kept.values() for reason in each.kept_as]
        assert reasons.count(TIP) <= limits.tips
        assert reasons.count(HOUR) <= limits.hourly
        assert reasons.count(DAY) <= limits.daily
        assert len(seen.recent) <= limits.recent
        loose = [each for each in seen.all() if each.seq != seq and not {TIP, PIN} & set(each.kept_as)]
        assert limits.max_bytes is None or not loose or stored_bytes(seen) <= limits.max_bytes


def keep_pin(each: Manifest) -> Manifest:
    """The manifest as ``pin`` marks it."""
    return keep(each, PIN)


def test_the_last_snapshot_of_an_hour_is_kept_when_it_leaves_the_recent_ones() -> None:
    seen = MemberRecord()
    for seq in range(1, 41):
        head = Head(1, "w", manifest(seq, seq * HOUR_MS // 4, (seq,)))
        seen = append(seen, head, tip=False, limits=Retention(recent=2, hourly=3, daily=0)).record
    assert sorted(seen.kept) == [27, 31, 35]


def test_an_unproven_founder_is_still_a_founder(keyspace: Keyspace) -> None:
    assert save(writer(keyspace), state(), None) is Outcome.SAVED
    capture = writer(keyspace).prepare(encode_state(state(mark=2)), FOUNDER, taken_at_ms=1)
    assert capture.suspect
