"""What was seen, and what it proves: pure functions, so that the demo's judgement is tested without a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resonance.codec import parse_state
from resonance.model.state import digest
from tests.apps.network import State, step

NONE = "none"
TRAJECTORY = 600
"""Ticks that are computed at most to find a snapshot's state: the sample ticks once a second, the demo is shorter."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One claim about what was seen, whether it holds, and the figure that shows it."""

    claim: str
    holds: bool
    figure: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What an app exported at one moment, with its proof headers."""

    state: State
    incarnation: str
    restored_from: str

    @property
    def tick(self) -> int:
        return int(self.state["metrics"]["tick"])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Redis says of one snapshot."""

    id: str
    seq: int
    digest: str
    writer: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Snapshot:
        return cls(manifest["id"], int(manifest["seq"]), manifest["digest"], manifest["writer"])

    @property
    def short(self) -> str:
        """Id and digest, short enough for one line."""
        return f"{abbreviated(self.id)} (digest {self.digest[:10]}…)"


@dataclass(frozen=True, slots=True)
class Comeback:
    """One fault of one member. ``marked`` was exported when the marker had just been set; ``last_tick`` was the last
    one seen before the fault; ``head`` is the member's head then; ``used`` is the snapshot that the new process says
    it restored, None when Redis has none of that id; ``after`` was exported some ticks later; ``seconds`` passed until
    the new process answered; ``allowed`` are the ticks that may be lost.
    """

    member: str
    marked: Sight
    last_tick: int
    head: Snapshot
    used: Snapshot | None
    after: Sight
    seconds: float
    allowed: int


def digest_of(state: State) -> str:
    """The digest that a snapshot of this state carries."""
    return digest(parse_state(json.dumps(state, separators=(",", ":")).encode()))


def state_of(snapshot: Snapshot, start: State) -> State | None:
    """The state whose digest the snapshot carries, at most so many ticks after `start`; None when there is none."""
    state = start
    for _ in range(TRAJECTORY):
        if digest_of(state) == snapshot.digest:
            return state
        state = step(state)
    return None


def later(state: State, tick: int) -> State:
    """The state at a tick that is not before its own."""
    while state["metrics"]["tick"] < tick:
        state = step(state)
    return state


def differences(expected: object, found: object, path: str = "") -> Sequence[str]:
    """The paths of all fields that are not exactly equal."""
    if isinstance(expected, dict) and isinstance(found, dict):
        names = sorted(expected.keys() | found.keys())
        return [
            each
            for name in names
            for each in differences(expected.get(name), found.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if expected == found and type(expected) is type(found) else [path]


def fields(state: object) -> int:
    """How many values a comparison of this state looks at."""
    return sum(map(fields, state.values())) if isinstance(state, dict) else 1


def abbreviated(snapshot: str) -> str:
    """A snapshot id with its line cut to eight characters."""
    line, dot, seq = snapshot.rpartition(".")
    return f"{line[:8]}….{seq}" if dot and len(line) > 9 else snapshot


def of_comeback(seen: Comeback) -> list[Proof]:
    """A member came back from a snapshot that holds what it had, and goes on exactly from there."""
    who, after = seen.member, seen.after
    known = seen.used is not None
    back = Proof(
        f"{who} came back from a snapshot of its own",
        known and after.incarnation != seen.marked.incarnation,
        f"{seen.used.short}, before: {abbreviated(seen.head.id)}, {seen.seconds:.1f} s"
        if seen.used is not None
        else f"Resonance-Restored-From: {after.restored_from}, head before: {seen.head.id}",
    )
    if seen.used is None:
        return [back]
    restored = state_of(seen.used, seen.marked.state)
    if restored is None:
        figure = f"no state from tick {seen.marked.tick} on has the digest {seen.used.digest}"
        return [back, Proof(f"the snapshot holds {who}'s state", False, figure)]
    tick = int(restored["metrics"]["tick"])
    lost = max(0, seen.last_tick - tick)
    promise = "nothing was lost" if seen.allowed == 0 else f"at most {seen.allowed} ticks were lost"
    return [
        back,
        Proof(
            f"the snapshot holds {who}'s state, {promise}",
            lost <= seen.allowed,
            f"snapshot at tick {tick}, last seen at {seen.last_tick}, lost {lost}",
        ),
        goes_on(who, restored, after),
    ]


def goes_on(who: str, restored: State, after: Sight) -> Proof:
    """What the app exports is what the restored state becomes, field by field."""
    expected = later(restored, after.tick)
    different = differences(expected, after.state)
    equal = fields(expected) - len(different)
    shown = f"; different: {', '.join(different[:3])}" if different else ""
    ticks = after.tick - int(restored["metrics"]["tick"])
    return Proof(
        f"{who} goes on exactly from there",
        not different and ticks > 0,
        f"{equal} of {fields(expected)} fields equal, ticks since the snapshot: {ticks}{shown}",
    )
