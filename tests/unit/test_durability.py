"""A level is claimed when it was confirmed, in the outcome and in the manifest, and never before."""

import pytest
from tests.store.test_member import FOUNDER, MEMBER, state, writer

from resonance.codec import encode_state
from resonance.engine.writer import Writer, Written
from resonance.model.durability import Durability
from resonance.model.errors import StoreUnreachable
from resonance.model.report import Outcome
from resonance.model.state import State
from resonance.store.catalogue import pin
from resonance.store.durable import confirm
from resonance.store.member import load
from resonance.testing import MemoryKeyspace

REPLICA, FSYNC, MEMORY = Durability.REPLICA, Durability.FSYNC, Durability.MEMORY


def commit(by: Writer, what: State, level: Durability) -> Written:
    return by.commit(by.prepare(encode_state(what), FOUNDER, taken_at_ms=1), level=level)


def marks(keyspace: MemoryKeyspace) -> tuple[str, list[str]]:
    """What the head says, and what each recent manifest says."""
    record = load(keyspace, MEMBER).record
    assert record.head is not None
    return record.head.manifest.durability, [each.durability for each in record.recent]


def test_the_level_reached_stands_in_the_manifest_and_later_ones_keep_their_own() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    commit(by, state(mark=1), MEMORY)
    keyspace.replicas = 1
    written = commit(by, state(mark=2), REPLICA)
    assert (written.outcome, written.durability) == (Outcome.SAVED, REPLICA)
    commit(by, state(mark=3), FSYNC)
    assert marks(keyspace) == ("Fsync", ["Fsync", "Replica", "Memory"])
    assert commit(by, state(mark=4), MEMORY).outcome is Outcome.SAVED


def test_a_level_that_nobody_confirmed_is_not_claimed() -> None:
    keyspace = MemoryKeyspace()
    written = commit(writer(keyspace), state(), REPLICA)
    assert (written.outcome, written.durability) == (Outcome.SAVED_UNREPLICATED, MEMORY)
    assert marks(keyspace) == ("Memory", ["Memory"])


def test_an_unchanged_state_is_confirmed_once_the_replica_is_there() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    commit(by, state(), REPLICA)
    keyspace.replicas = 1
    written = commit(by, state(), REPLICA)
    assert (written.outcome, written.durability) == (Outcome.UNCHANGED, REPLICA)
    assert marks(keyspace) == ("Replica", ["Replica"])


@pytest.mark.parametrize(("lost", "outcome"), [(1, Outcome.SAVED), (2, Outcome.SAVED_UNREPLICATED)])
def test_a_commit_whose_reply_was_lost_is_confirmed_by_its_retry(lost: int, outcome: Outcome) -> None:
    """When the reply of that is lost too, nothing is claimed, and the next commit goes on."""
    keyspace = MemoryKeyspace()
    keyspace.replicas = 1
    by = writer(keyspace)
    capture = by.prepare(encode_state(state()), FOUNDER, taken_at_ms=1)
    keyspace.lose_replies = lost
    with pytest.raises(StoreUnreachable):
        by.commit(capture, level=REPLICA)
    written = by.commit(capture, level=REPLICA)
    assert written.outcome is outcome
    written = commit(by, state(mark=2), REPLICA)
    if written.outcome is Outcome.CONFLICT:
        written = commit(by, state(mark=2), REPLICA)
    assert written.durability is REPLICA
    assert len(load(keyspace, MEMBER).record.recent) == 2


def test_a_mark_gives_way_to_a_pin_of_the_same_moment() -> None:
    keyspace = MemoryKeyspace()
    by = writer(keyspace)
    commit(by, state(), MEMORY)
    seen = load(keyspace, MEMBER)
    pin(keyspace, MEMBER, 1)
    assert confirm(keyspace, MEMBER, seen, FSYNC) == (seen, FSYNC)
    assert load(keyspace, MEMBER).record.kept[1].kept_as == ("pin",)
