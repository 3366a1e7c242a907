"""The conditions of a policy, each computed whole from facts. Nothing else in the operator edits a condition.

The argument: a condition that is set where something happens is wrong as soon as the next thing happens. So the
operator gathers facts, and this module says what they mean.

The conditions are positive; the order below is the order in which ``Ready`` looks for its reason. Reasons are an API:
they are the words of the functions below, and docs/status.md lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from resonance.model.acceptance import Said
from resonance.model.facts import Facts, PodFacts, Proved, members_of, named, shown
from resonance.model.pod import Injection, Pod
from resonance.model.report import GOOD, Outcome
from resonance.model.resource import Policy, Rejected

START = timedelta(seconds=15)
"""How long a new pod may take to its first snapshot before it is called late, however short the target is."""
_STARTING = "Starting"
_SKEW = timedelta(seconds=5)
_SILENT_TURNS = 3


class Type(StrEnum):
    """The conditions, in the order in which ``Ready`` looks for its reason."""

    ACCEPTED = "Accepted"
    STORE_REACHABLE = "StoreReachable"
    STORE_SAFE = "StoreSafe"
    INJECTED = "Injected"
    CURRENT = "Current"
    PROTECTED = "Protected"
    RESTORABLE = "Restorable"
    READY = "Ready"


class Is(StrEnum):
    """A condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition without its times."""

    type: Type
    status: Is
    reason: str
    message: str


def conditions_of(facts: Facts, accepted_since: datetime | None) -> list[Condition]:
    """Every condition, ``Ready`` last. ``accepted_since`` is when the policy was accepted, as far as is known.

    A policy that is not accepted has nothing else to say.
    """
    policy = facts.policy
    found = [_accepted(facts)]
    if isinstance(policy, Policy) and facts.refusal is None:
        found += [
            _store_reachable(facts),
            _store_safe(facts),
            _injected(facts, accepted_since),
            _current(facts, policy),
            _protected(facts),
            _restorable(facts),
        ]
    return [*found, _ready(found)]


def _ready(conditions: Sequence[Condition]) -> Condition:
    for wanted in (Is.FALSE, Is.UNKNOWN):
        for each in conditions:
            if each.status is wanted:
                return Condition(Type.READY, wanted, each.reason, f"{each.type}: {each.message}")
    return Condition(Type.READY, Is.TRUE, "Ready", "every member is snapshotted, intact and restorable.")


def _accepted(facts: Facts) -> Condition:
    refusal = facts.refusal
    if isinstance(facts.policy, Rejected) and refusal is None:
        refusal = Said("Invalid", " ".join(map(str, facts.policy.problems)))
    if refusal is not None:
        return Condition(Type.ACCEPTED, Is.FALSE, refusal.reason, refusal.message)
    if facts.warnings:
        text = " ".join(each.message for each in facts.warnings)
        return Condition(Type.ACCEPTED, Is.TRUE, facts.warnings[0].reason, text)
    return Condition(Type.ACCEPTED, Is.TRUE, "Accepted", "new pods that the selector matches get the agent.")


def _store_reachable(facts: Facts) -> Condition:
    store = facts.store
    if store.trouble is not None:
        return Condition(Type.STORE_REACHABLE, Is.FALSE, store.trouble.reason, store.trouble.message)
    if not store.asked:
        return Condition(
            Type.STORE_REACHABLE, Is.UNKNOWN, "NotAskedYet", "the store is being asked for the first time."
        )
    return Condition(Type.STORE_REACHABLE, Is.TRUE, "Reachable", f"Redis at {store.address} answers.")


def _store_safe(facts: Facts) -> Condition:
    dangers = facts.store.dangers
    unreplicated = [each.pod.name for each in facts.pods if _outcome(each) is Outcome.SAVED_UNREPLICATED]
    if dangers is None:
        text = "what the server says of itself could not be read yet."
        return Condition(Type.STORE_SAFE, Is.UNKNOWN, "NotAskedYet", text)
    where = f"Redis at {facts.store.address}"
    if dangers:
        text = " Also ".join(each.message for each in dangers)
        return Condition(Type.STORE_SAFE, Is.FALSE, dangers[0].reason, f"{where}: {text}")
    if unreplicated:
        text = f"{where}: no replica confirmed the newest snapshot of {named(unreplicated)}; check its replicas."
        return Condition(Type.STORE_SAFE, Is.FALSE, str(Outcome.SAVED_UNREPLICATED), text)
    return Condition(Type.STORE_SAFE, Is.TRUE, "Safe", f"{where} does not evict and keeps what it acknowledged.")


def _injected(facts: Facts, accepted_since: datetime | None) -> Condition:
    pods = [each.pod for each in facts.pods if not each.ignored and each.pod.live]
    bare = [pod for pod in pods if pod.injection is Injection.OLDER_THAN_POLICY]
    missed = [pod.name for pod in bare if accepted_since is not None and pod.created > accepted_since + _SKEW]
    never = [pod.name for pod in pods if pod.injection in (Injection.HOST_NETWORK, Injection.MIRROR)]

    def is_false(reason: str, text: str) -> Condition:
        return Condition(Type.INJECTED, Is.FALSE, reason, text)

    if missed:
        text = f"{named(missed)} started without the agent although the policy was accepted"
        return is_false("InjectionMissing", f"{text}. Install manifests/injection, then restart the pods.")
    if bare:
        names = named([pod.name for pod in bare])
        text = f"{names} ran before the policy came: snapshotted from outside, not restored and not flushed on shutdown"
        return is_false("Adopted", f"{text}. Restart them when it suits (kubectl rollout restart).")
    if never:
        text = f"{named(never)} can't carry the agent (host network or static pod)"
        return is_false("HostNetwork", f"{text}. Narrow the selector or leave the host network.")
    if facts.detached:
        text = f"{named(facts.detached)} carry the agent but are not selected any more: labels or selector changed"
        return is_false("Detached", f"{text}. They go on until they end; their successors will not be snapshotted.")
    if not pods:
        return Condition(Type.INJECTED, Is.UNKNOWN, *_no_pods(facts))
    return _injected_but(facts)


def _no_pods(facts: Facts) -> tuple[str, str]:
    if facts.expected:
        return _STARTING, f"no pod of {named(facts.expected)} runs right now."
    return "NoPods", "no pod matches spec.selector. Check its labels."


def _injected_but(facts: Facts) -> Condition:
    taken = [each.pod.name for each in facts.pods if _has_own_prestop(facts.policy, each.pod)]
    if taken:
        text = f"{named(taken)}: the app has a preStop hook of its own, so nothing is flushed before SIGTERM"
        step = "let the hook also call http://127.0.0.1:9477/flush, or remove it"
        return Condition(Type.INJECTED, Is.TRUE, "PreStopTaken", f"{text}; {step}.")
    return Condition(Type.INJECTED, Is.TRUE, "Injected", "every selected pod carries the agent.")


def _has_own_prestop(policy: Policy | Rejected, pod: Pod) -> bool:
    app = pod.app(policy.container) if isinstance(policy, Policy) else None
    return app is not None and app.own_prestop


def _current(facts: Facts, policy: Policy) -> Condition:
    if policy.suspend:
        return Condition(Type.CURRENT, Is.FALSE, "Suspended", "spec.schedule.suspend is true: nothing is snapshotted.")
    judged = [(each, lateness(each, policy, facts.now)) for each in members_of(facts)]
    late = [(each, found) for each, found in judged if found is not None and found.reason != _STARTING]
    if late:
        worst = late[0][1]
        more = f" The same or another reason holds for {len(late) - 1} more." if len(late) > 1 else ""
        return Condition(Type.CURRENT, Is.FALSE, worst.reason, worst.message + more)
    if not judged:
        return Condition(Type.CURRENT, Is.UNKNOWN, *_no_pods(facts))
    starting = [each.pod.name for each, found in judged if found is not None]
    if starting:
        text = f"not snapshotted yet, but within the target: {named(starting)}."
        return Condition(Type.CURRENT, Is.UNKNOWN, _STARTING, text)
    text = f"every member's newest snapshot is younger than {shown(policy.rpo)}."
    return Condition(Type.CURRENT, Is.TRUE, "Current", text)


def lateness(each: PodFacts, policy: Policy, now: datetime) -> Said | None:
    """Why the member misses the target, None when it meets it. ``Starting``: it is too young to be blamed."""
    if each.age is not None and each.age <= policy.rpo and not _is_silent(each, policy):
        return None
    name = each.pod.name
    if now - each.pod.created <= max(policy.rpo, START):
        return Said(_STARTING, f"{name} has not been snapshotted yet.")
    report = each.report if each.report is not None and each.report.uid == each.pod.uid else None
    since = f"its newest snapshot is {shown(each.age)} old" if each.age is not None else "it has no snapshot"
    if each.waiting:
        return Said("WaitingForMember", f"{name} waits for a member ({each.waiting}); {since}.")
    if report is not None and report.outcome not in GOOD:
        return Said(str(report.outcome), f"{name}: {since}. {report.message or report.outcome}")
    if each.member is None:
        step = "the agent says why in its log" if each.pod.injection is Injection.INJECTED else "it is being adopted"
        return Said("NoMember", f"{name} holds no member yet, {since}; {step}.")
    if report is None:
        return Said("NoReport", f"{name} has not reported since it started; {since}. See the log of its agent.")
    if _is_silent(each, policy) and each.silent is not None:
        text = f"{name} has not reported for {shown(each.silent)}; {since}. See the log of its agent"
        return Said("ReportStale", f"{text} and whether its node reaches the store.")
    return Said("Late", f"{name}: {since}, the target is {shown(policy.rpo)}. Lengthen the interval or the target.")


def _is_silent(each: PodFacts, policy: Policy) -> bool:
    return each.silent is not None and each.silent > max(policy.rpo, _SILENT_TURNS * policy.every)


def _protected(facts: Facts) -> Condition:
    reports = [(each.pod.name, each.report) for each in members_of(facts) if each.report is not None]
    aside = [(name, report.quarantined) for name, report in reports if report.quarantined]
    if aside:
        name, incarnation = aside[0]
        text = f"{name}: process {incarnation} started without its member's state; its captures are put aside"
        step = "fix the app's restore and restart it, or let this process go on as docs/status.md tells"
        return Condition(Type.PROTECTED, Is.FALSE, str(Outcome.QUARANTINED), f"{text}. Next: {step}.")
    silent = [name for name, report in reports if report.incarnation and not report.proven]
    if silent:
        text = f"{named(silent)}: the app does not say which snapshot it restored, so a wrong restore can't be noticed"
        step = "send the headers Resonance-Incarnation and Resonance-Restored-From with the export"
        return Condition(Type.PROTECTED, Is.FALSE, "AppDoesNotProve", f"{text}. Next: {step}.")
    if not any(report.incarnation for _, report in reports):
        return Condition(Type.PROTECTED, Is.UNKNOWN, "NothingCaptured", "no app has been captured yet.")
    return Condition(Type.PROTECTED, Is.TRUE, "Proven", "every app proves which state it goes on from.")


def _restorable(facts: Facts) -> Condition:
    opened = [(each, each.verified) for each in members_of(facts) if each.head is not None]
    bad = [(each, seen) for each, seen in opened if seen is not None and seen.proved is Proved.DAMAGED]
    if bad:
        each, seen = bad[0]
        text = f"{each.pod.name}: snapshot {seen.id} does not verify. {seen.detail}"
        return Condition(Type.RESTORABLE, Is.FALSE, "HeadDamaged", text)
    if not opened:
        return Condition(Type.RESTORABLE, Is.UNKNOWN, "NoSnapshot", "there is no snapshot yet.")
    unseen = [each.pod.name for each, seen in opened if seen is None]
    if unseen:
        text = f"the head of {named(unseen)} has not been opened yet."
        return Condition(Type.RESTORABLE, Is.UNKNOWN, "NotVerifiedYet", text)
    large = [each.pod.name for each, seen in opened if seen is not None and seen.proved is Proved.TOO_LARGE]
    if large:
        text = f"every head is there; those of {named(large)} are too large to be opened by the operator."
        return Condition(Type.RESTORABLE, Is.TRUE, "NotAllOpened", text)
    return Condition(
        Type.RESTORABLE, Is.TRUE, "Verified", "the head of every member was opened and matches its digest."
    )


def _outcome(each: PodFacts) -> Outcome | None:
    return each.report.outcome if each.report is not None else None
