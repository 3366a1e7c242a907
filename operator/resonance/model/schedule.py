"""When a member is captured next, as one pure decision over what the host observed.

The argument: intervals are cells of a grid that begins with the host and is shifted by a stable jitter of the member,
so that members that started together do not write together. A capture belongs to the cell in which it started, and each
cell has at most one: what is late coalesces. A capture that is slow to take stretches the interval to four times its
own time, so that snapshots never cost an app more than a quarter of its time; the decision says so. Nothing knows why
the store is away: captures go on, and only the store's own attempts back off (:func:`retry_delay`).

All times are ms on one steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

SPARE = 4
"""A capture's own time is at most one part in so many."""
DEFAULT_JITTER = 0.1
FIRST_RETRY_MS = 1_000
"""Until the first good capture of a host the app is asked this often: it may still be starting."""


class Reason(StrEnum):
    """Why nothing is captured now."""

    NOT_DUE = "NotDue"
    IN_FLIGHT = "CaptureInFlight"
    SUSPENDED = "Suspended"
    SLOWED = "Slowed"


@dataclass(frozen=True, slots=True)
class Observed:
    """One member as its host sees it.

    ``origin`` is when the host began, ``offset`` the member's jitter. ``started`` is when the last capture began (None:
    none yet), ``took`` its own time, ``settled`` whether this host ever had a good one.
    """

    now: int
    every: int
    origin: int
    offset: int
    started: int | None
    took: int = 0
    settled: bool = True
    in_flight: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """Capture now. ``scheduled_at`` is when it was due."""

    scheduled_at: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before ``until``; decide again then."""

    until: int
    reason: Reason


def decide(seen: Observed) -> Capture | Wait:
    """Say what to do next for one member. Never touches the cluster, Redis or the clock."""
    due, reason = _due(seen)
    if seen.suspended:
        return Wait(max(due, _next_cell(seen, seen.now)), Reason.SUSPENDED)
    if seen.in_flight:
        return Wait(max(due, _next_cell(seen, seen.now)), Reason.IN_FLIGHT)
    if seen.now < due:
        return Wait(due, reason)
    return Capture(due)


def _due(seen: Observed) -> tuple[int, Reason]:
    if seen.started is None:
        return seen.now, Reason.NOT_DUE
    spared = seen.started + SPARE * seen.took
    if not seen.settled:
        return max(seen.started + min(seen.every, FIRST_RETRY_MS), spared), Reason.NOT_DUE
    due = _next_cell(seen, seen.started)
    return (spared, Reason.SLOWED) if spared > due else (due, Reason.NOT_DUE)


def _next_cell(seen: Observed, at: int) -> int:
    """The first beginning of a cell after ``at``."""
    first = seen.origin + seen.offset
    return first + ((at - first) // seen.every + 1) * seen.every


def offset_of(member: str, jitter: int) -> int:
    """The member's own place within the jitter: stable, spread evenly over [0, ``jitter``)."""
    place = int.from_bytes(blake2b(member.encode(), digest_size=8).digest(), "big")
    return place * jitter >> 64


def slowed_to(every: int, took: int) -> int | None:
    """The interval that is really kept when a capture takes ``took``, None when it is the one that was asked for."""
    return SPARE * took if SPARE * took > every else None


def retry_delay(failures: int, *, first: int, most: int) -> int:
    """How long to leave something alone after so many failures in a row: doubles from ``first`` to ``most``."""
    return min(most, first << min(max(failures - 1, 0), 32))
