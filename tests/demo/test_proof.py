"""The demo's judgement must be able to fail: each way to lose something is told from a comeback that lost nothing."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from tests.apps.network import State, founded, step, with_metrics
from tests.demo.proof import (
    Comeback,
    Proof,
    Sight,
    Snapshot,
    abbreviated,
    differences,
    digest_of,
    fields,
    later,
    of_comeback,
    state_of,
)
from tests.demo.terminal import NotInTimeError, Screen, wants_colour
from tests.lab import LabError

MARKED = with_metrics(later(founded(20, 1, 100, 0), 5), {"marker": "only-here"})


def snapshot(state: State, seq: int = 7) -> Snapshot:
    return Snapshot(f"cafe.{seq}", seq, digest_of(state), "uid")


def comeback(**changes: Any) -> Comeback:
    """A member marked at tick 5, last seen at 8, restored from tick 8 and now at 11."""
    good = Comeback(
        member="web-0",
        marked=Sight(MARKED, "first", "none"),
        last_tick=8,
        head=snapshot(MARKED, 6),
        used=snapshot(later(MARKED, 8)),
        after=Sight(later(MARKED, 11), "second", "cafe.7"),
        seconds=3.0,
        allowed=0,
    )
    return replace(good, **changes)


def failed(proofs: list[Proof]) -> list[str]:
    return [proof.claim for proof in proofs if not proof.holds]


def test_a_member_that_lost_nothing_holds_every_proof() -> None:
    proofs = of_comeback(comeback())
    assert failed(proofs) == []
    assert "lost 0" in proofs[1].figure


def test_ticks_after_the_snapshot_are_counted_as_lost() -> None:
    late = comeback(last_tick=10)
    assert failed(of_comeback(late)) == ["the snapshot holds web-0's state, nothing was lost"]
    assert failed(of_comeback(replace(late, allowed=2))) == []
    assert failed(of_comeback(replace(late, allowed=1))) != []


def test_a_process_that_restored_nothing_is_found_out() -> None:
    empty = comeback(used=None, after=Sight(founded(20, 1, 100, 0), "second", "none"))
    assert failed(of_comeback(empty)) == ["web-0 came back from a snapshot of its own"]


def test_the_same_process_is_no_comeback() -> None:
    assert failed(of_comeback(comeback(after=Sight(later(MARKED, 11), "first", "cafe.7")))) != []


def test_a_snapshot_from_before_the_marker_is_not_the_members_state() -> None:
    older = comeback(used=snapshot(later(founded(20, 1, 100, 0), 8)))
    assert failed(of_comeback(older)) == ["the snapshot holds web-0's state"]


def test_a_process_that_stands_still_does_not_go_on() -> None:
    assert failed(of_comeback(comeback(after=Sight(later(MARKED, 8), "second", "cafe.7")))) != []


def test_one_field_that_differs_is_named() -> None:
    state = later(MARKED, 11)
    node = {**state["nodes"]["n00003"], "phase": 0.5}
    changed = Sight({**state, "nodes": {**state["nodes"], "n00003": node}}, "second", "cafe.7")
    proof = of_comeback(comeback(after=changed))[-1]
    assert not proof.holds
    assert proof.figure.endswith("different: nodes.n00003.phase")


def test_a_field_that_is_missing_or_of_another_type_differs() -> None:
    assert differences({"a": {"b": 1, "c": [1]}}, {"a": {"b": 1.0, "c": [1]}, "d": 2}) == ["a.b", "d"]
    assert fields({"a": {"b": 1, "c": [1]}}) == 2


def test_the_state_of_a_snapshot_is_found_by_its_digest() -> None:
    assert state_of(snapshot(step(MARKED)), MARKED) == step(MARKED)


def test_an_id_is_abbreviated_so_that_its_number_stays() -> None:
    assert (abbreviated("0123456789abcdef.42"), abbreviated("none")) == ("01234567….42", "none")


def test_waiting_ends_at_the_deadline_and_says_for_what() -> None:
    screen = Screen(io.StringIO(), {})
    assert screen.wait("an answer", lambda: 3, 0) == 3
    with pytest.raises(NotInTimeError, match="0 s in vain for a miracle"):
        screen.wait("a miracle", lambda: None, 0)


def test_a_look_that_fails_is_no_answer_and_its_words_are_kept() -> None:
    looks = iter([LabError("no route"), None])

    def look() -> int | None:
        trouble = next(looks)
        if trouble is not None:
            raise trouble
        return 4

    screen = Screen(io.StringIO(), {})
    assert screen.wait("an answer", look, 5) == 4
    looks = iter([LabError("no route")])
    with pytest.raises(NotInTimeError, match="an answer; no route"):
        screen.wait("an answer", look, 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "environ", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(out: io.StringIO, environ: dict[str, str], colour: bool) -> None:
    assert wants_colour(out, environ) is colour
