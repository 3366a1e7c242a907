"""What a fail-over lost is noticed, named and saved anew; what retention dropped is not taken for a loss."""

import copy

from hypothesis import given
from hypothesis import strategies as st
from tests.store.test_member import FOUNDER, MEMBER, newest, save, state, writer

from resonance.codec import encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.report import Outcome
from resonance.model.retention import Retention
from resonance.model.state import State
from resonance.store.catalogue import pin, unpin
from resonance.store.member import load
from resonance.testing import MemoryKeyspace


def test_a_store_that_went_back_is_noticed_and_the_state_is_saved_anew() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    save(by, state(mark=1))
    lagging = copy.deepcopy(keyspace.data)
    save(by, state(mark=2))
    save(by, state(mark=3))
    keyspace.data = lagging
    assert save(by, state(mark=4)) is Outcome.CONFLICT
    assert by.loss is not None
    assert (by.loss.lost.seq, by.loss.left and by.loss.left.seq) == (3, 1)
    assert "p1.3" in by.loss.message
    assert save(by, state(mark=4)) is Outcome.SAVED
    record = load(keyspace, MEMBER).record
    assert newest(keyspace) == state(mark=4)
    assert [each.parent for each in record.recent] == [record.recent[1].commit, None]
    assert not record.kept
    assert len(record.recent[0].chain) == 1


def test_a_store_that_lost_everything_is_noticed() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    save(by, state(mark=1))
    keyspace.data = {}
    assert save(by, state(mark=1)) is Outcome.CONFLICT
    assert by.loss is not None
    assert by.loss.left is None
    assert "has none" in by.loss.message
    assert save(by, state(mark=1)) is Outcome.SAVED
    assert newest(keyspace) == state(mark=1)


def test_a_loss_below_a_head_that_somebody_else_wrote_since_is_noticed() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    save(by, state(mark=1))
    lagging = copy.deepcopy(keyspace.data)
    save(by, state(mark=2))
    keyspace.data = lagging
    first = load(keyspace, MEMBER).record.recent[0]
    other = writer(keyspace, "pod-b", 2, {first.id: first.commit})
    for mark in (5, 6):
        save(other, state(mark=mark), Proof("p2", first.id))
    assert save(by, state(mark=3)) is Outcome.SUPERSEDED
    assert by.loss is not None
    assert (by.loss.lost.seq, by.loss.lost.writer) == (2, "pod-a")


@given(st.lists(st.sampled_from(["save", "same", "pin", "unpin", "empty"]), max_size=30), st.integers(1, 3))
def test_what_a_writer_and_its_catalogue_do_is_never_taken_for_a_loss(steps: list[str], recent: int) -> None:
    keyspace = MemoryKeyspace()
    limits = Retention(recent=recent, hourly=0, daily=0, tips=1, max_bytes=2_000)
    by = Writer(keyspace, MEMBER, uid="a", pod="w", epoch=1, files={}, limits=limits)
    save(by, state(mark=0))
    for mark, step in enumerate(steps, 1):
        head = load(keyspace, MEMBER).record.head
        assert head is not None
        match step:
            case "save":
                save(by, state(mark=mark))
            case "pin":
                pin(keyspace, MEMBER, head.seq)
            case "unpin":
                unpin(keyspace, MEMBER, head.seq)
            case "empty":
                by.commit(by.prepare(encode_state(State({}, None)), FOUNDER, taken_at_ms=mark))
            case _:
                by.learn()
        assert by.loss is None
