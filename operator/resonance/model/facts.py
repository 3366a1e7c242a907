"""What is known about a policy, its store and its pods at one moment: everything that a status is computed from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from resonance.model.acceptance import Said
from resonance.model.manifest import Head
from resonance.model.pod import Pod
from resonance.model.report import Report
from resonance.model.resource import Policy, Rejected
from resonance.model.units import show_duration

_NAMED = 3


class Proved(StrEnum):
    """What opening a member's head showed."""

    INTACT = "Intact"
    DAMAGED = "Damaged"
    TOO_LARGE = "TooLarge"


@dataclass(frozen=True, slots=True)
class Verified:
    """The operator opened one head of the member. ``detail`` names what was damaged and what would be restored
    instead.
    """

    proved: Proved
    id: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One running or starting pod that the policy selects, with what Redis has of its member.

    ``member`` is None while it holds none; ``reserved``: it waits to take over from another pod. ``age`` is that of the
    newest snapshot of the member, on the Redis clock, None when there is none; ``silent`` how long ago the writer
    reported; ``hand_over_gap`` what a superseded pod did beside the history, for people.
    """

    pod: Pod
    ignored: str = ""
    member: str | None = None
    reserved: bool = False
    waiting: str = ""
    head: Head | None = None
    report: Report | None = None
    age: timedelta | None = None
    silent: timedelta | None = None
    verified: Verified | None = None
    hand_over_gap: str = ""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """``address`` is host:port. ``trouble``: why it could not be read. ``dangers`` is None while nobody has looked."""

    address: str = ""
    trouble: Said | None = None
    asked: bool = False
    dangers: tuple[Said, ...] | None = None


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the injection puts into pods, and the cluster's id."""

    image: str
    pull_policy: str = "IfNotPresent"
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one status is computed from. ``refusal`` None: accepted. ``warnings`` go into ``Accepted``.

    ``detached`` names injected pods that are not selected any more, ``expected`` workloads that should have pods.
    """

    policy: Policy | Rejected
    agent: AgentSettings
    now: datetime
    refusal: Said | None = None
    warnings: tuple[Said, ...] = ()
    store: StoreFacts = StoreFacts()
    pods: tuple[PodFacts, ...] = ()
    detached: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()


def members_of(facts: Facts) -> list[PodFacts]:
    """One entry for each member. Of its pods the one that is to stay counts, and of two such the holder."""
    best: dict[tuple[str, str], PodFacts] = {}
    for each in facts.pods:
        if each.ignored or (each.pod.terminating and each.member is None):
            continue
        key = (each.pod.workload, each.member or each.pod.uid)
        if key not in best or _standing(each) < _standing(best[key]):
            best[key] = each
    return list(best.values())


def _standing(each: PodFacts) -> tuple[bool, bool]:
    return each.pod.terminating, each.reserved


def measured_rpo(facts: Facts) -> timedelta | None:
    """The worst that a member kept: the gap between its last two snapshots, or the age of the newest if longer."""
    ages = [each.age for each in members_of(facts) if each.age is not None]
    gaps = [timedelta(milliseconds=each.report.gap_ms) for each in members_of(facts) if each.report is not None]
    return max([*ages, *(gap for gap in gaps if gap > timedelta(0))], default=None)


def named(names: Iterable[str]) -> str:
    """Names for a message: three, and how many more."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:_NAMED])
    return shown if len(ordered) <= _NAMED else f"{shown} and {len(ordered) - _NAMED} more"


def shown(length: timedelta) -> str:
    """A length of time for people."""
    return show_duration(max(0, round(length.total_seconds() * 1000)))
