"""Laws of states, their differences and digests."""

from hypothesis import given
from hypothesis import strategies as st

from resonance.model.state import EMPTY, State, advance, apply, diff, digest

IDS = st.text(max_size=4)
OBJECTS = st.integers(0, 3).map(lambda number: b'{"v":%d}' % number)
KINDS = st.dictionaries(st.sampled_from(["nodes", "fields", "x"]), st.dictionaries(IDS, OBJECTS, max_size=5))
STATES = st.builds(State, KINDS, st.none() | OBJECTS)


@given(STATES, STATES)
def test_a_difference_leads_from_one_state_to_the_other(before: State, after: State) -> None:
    assert apply(before, diff(before, after)) == after


@given(STATES, STATES)
def test_a_digest_moved_by_a_difference_is_the_digest_of_the_result(before: State, after: State) -> None:
    assert advance(digest(before), before, diff(before, after)) == digest(after)


@given(STATES, STATES)
def test_a_difference_is_empty_exactly_when_the_states_are_equal(before: State, after: State) -> None:
    assert diff(before, after).empty(before) == (before == after)


@given(STATES, STATES)
def test_two_states_have_one_digest_only_if_their_entries_are_equal(one: State, other: State) -> None:
    assert (digest(one) == digest(other)) == (sorted(one.entries()) == sorted(other.entries()))


def test_moving_bytes_between_id_and_object_changes_the_digest() -> None:
    assert digest(State({"nodes": {"a": b"{}{}"}})) != digest(State({"nodes": {"a{}": b"{}"}}))


def test_the_empty_state_has_the_digest_of_zeros() -> None:
    assert digest(EMPTY) == "0" * 32
