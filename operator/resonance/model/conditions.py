"""What the status says, computed whole from facts. Nothing else in the operator edits a condition.

The argument: a condition that is set where something happens is wrong as soon as the next thing happens. So the
operator gathers facts, this module turns them into the whole status, and a second pure function says whether it is
worth a write: at once when a condition changed, else at most once in :data:`PACE` and only if something that is shown
changed.

The conditions are positive; the order below is the order in which ``Ready`` looks for its reason. Reasons are an API:
they are the words of the functions below, and docs list them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from resonance.model.acceptance import Said
from resonance.model.manifest import Head
from resonance.model.pod import Injection, Pod
from resonance.model.report import GOOD, Outcome, Report
from resonance.model.resource import Policy, Rejected
from resonance.model.units import show_duration

PACE = timedelta(seconds=30)
START = timedelta(seconds=15)
"""How long a new pod may take to its first snapshot before it is called late, however short the target is."""
MAX_MEMBERS = 50
MAX_MESSAGE = 1024
_NAMED = 3
_SKEW = timedelta(seconds=5)
_SILENT_TURNS = 3
Status = dict[str, Any]


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
    reported.
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


# ----------------------------------------------------------------------------------------------------- the whole status


def status_of(facts: Facts, previous: Mapping[str, Any] | None) -> Status:
    """The whole status. ``previous`` is the one before: a condition that did not change keeps its transition time."""
    policy = facts.policy
    if isinstance(policy, Rejected):
        said = facts.refusal or Said("Invalid", " ".join(map(str, policy.problems)))
        conditions = [Condition(Type.ACCEPTED, Is.FALSE, said.reason, said.message)]
        return _written(facts, [*conditions, _ready(conditions)], previous)
    conditions = [
        _accepted(facts),
        _store_reachable(facts),
        _store_safe(facts),
        _injected(facts, _accepted_since(previous)),
        _current(facts, policy),
        _protected(facts),
        _restorable(facts),
    ]
    if facts.refusal is not None:
        conditions = conditions[:1]
    status = _written(facts, [*conditions, _ready(conditions)], previous)
    rows = _rows(facts, policy)
    status["agent"] = agent_of(policy, facts.agent)
    status["summary"] |= _summary(facts, policy, rows)
    status["members"] = [row for _, row in rows[:MAX_MEMBERS]]
    oldest = max((each.age for each in facts.pods if each.age is not None), default=None)
    if oldest is not None:
        status["lastSnapshotTime"] = _stamp(facts.now - oldest)
    if facts.store.address:
        status["store"] = facts.store.address[:512]
    return status


def _written(facts: Facts, conditions: Sequence[Condition], previous: Mapping[str, Any] | None) -> Status:
    before = {each["type"]: each for each in (previous or {}).get("conditions") or ()}
    generation = facts.policy.generation
    ready = conditions[-1]
    return {
        "observedGeneration": generation,
        "conditions": [_timed(each, before.get(each.type), generation, facts.now) for each in conditions],
        "summary": {"ready": str(ready.status), "reason": ready.reason[:128]},
    }


def _timed(condition: Condition, before: Mapping[str, Any] | None, generation: int, now: datetime) -> Status:
    kept = before is not None and before.get("status") == condition.status
    since = before["lastTransitionTime"] if kept and before is not None else _stamp(now)
    return {
        "type": str(condition.type),
        "status": str(condition.status),
        "reason": condition.reason[:128],
        "message": _cut(condition.message),
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def _ready(conditions: Sequence[Condition]) -> Condition:
    for wanted in (Is.FALSE, Is.UNKNOWN):
        for each in conditions:
            if each.status is wanted:
                return Condition(Type.READY, wanted, each.reason, f"{each.type}: {each.message}")
    return Condition(Type.READY, Is.TRUE, "Ready", "every member is snapshotted, intact and restorable.")


# --------------------------------------------------------------------------------------------------- one condition each


def _accepted(facts: Facts) -> Condition:
    if facts.refusal is not None:
        return Condition(Type.ACCEPTED, Is.FALSE, facts.refusal.reason, facts.refusal.message)
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
        text = f"{where}: no replica confirmed the newest snapshot of {_names(unreplicated)}; check its replicas."
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
        text = f"{_names(missed)} started without the agent although the policy was accepted"
        return is_false("InjectionMissing", f"{text}. Install manifests/injection, then restart the pods.")
    if bare:
        names = _names([pod.name for pod in bare])
        text = f"{names} ran before the policy came: snapshotted from outside, not restored and not flushed on shutdown"
        return is_false("Adopted", f"{text}. Restart them when it suits (kubectl rollout restart).")
    if never:
        text = f"{_names(never)} can't carry the agent (host network or static pod)"
        return is_false("HostNetwork", f"{text}. Narrow the selector or leave the host network.")
    if facts.detached:
        text = f"{_names(facts.detached)} carry the agent but are not selected any more: labels or selector changed"
        return is_false("Detached", f"{text}. They go on until they end; their successors will not be snapshotted.")
    if not pods:
        return Condition(Type.INJECTED, Is.UNKNOWN, *_no_pods(facts))
    return _injected_but(facts)


def _no_pods(facts: Facts) -> tuple[str, str]:
    if facts.expected:
        return _STARTING, f"no pod of {_names(facts.expected)} runs right now."
    return "NoPods", "no pod matches spec.selector. Check its labels."


def _injected_but(facts: Facts) -> Condition:
    taken = [each.pod.name for each in facts.pods if _has_own_prestop(facts.policy, each.pod)]
    if taken:
        text = f"{_names(taken)}: the app has a preStop hook of its own, so nothing is flushed before SIGTERM"
        step = "let the hook also call http://127.0.0.1:9477/flush, or remove it"
        return Condition(Type.INJECTED, Is.TRUE, "PreStopTaken", f"{text}; {step}.")
    return Condition(Type.INJECTED, Is.TRUE, "Injected", "every selected pod carries the agent.")


def _has_own_prestop(policy: Policy | Rejected, pod: Pod) -> bool:
    app = pod.app(policy.container) if isinstance(policy, Policy) else None
    return app is not None and app.own_prestop


def _current(facts: Facts, policy: Policy) -> Condition:
    if policy.suspend:
        return Condition(Type.CURRENT, Is.FALSE, "Suspended", "spec.schedule.suspend is true: nothing is snapshotted.")
    judged = [(each, _lateness(each, policy, facts.now)) for each in _members(facts)]
    late = [(each, found) for each, found in judged if found is not None and found.reason != _STARTING]
    if late:
        worst = late[0][1]
        more = f" The same or another reason holds for {len(late) - 1} more." if len(late) > 1 else ""
        return Condition(Type.CURRENT, Is.FALSE, worst.reason, worst.message + more)
    if not judged:
        return Condition(Type.CURRENT, Is.UNKNOWN, *_no_pods(facts))
    starting = [each.pod.name for each, found in judged if found is not None]
    if starting:
        text = f"not snapshotted yet, but within the target: {_names(starting)}."
        return Condition(Type.CURRENT, Is.UNKNOWN, _STARTING, text)
    text = f"every member's newest snapshot is younger than {_show(policy.rpo)}."
    return Condition(Type.CURRENT, Is.TRUE, "Current", text)


_STARTING = "Starting"


def _lateness(each: PodFacts, policy: Policy, now: datetime) -> Said | None:
    """Why the member misses the target, None when it meets it. ``Starting``: it is too young to be blamed."""
    if each.age is not None and each.age <= policy.rpo and not _is_silent(each, policy):
        return None
    name = each.pod.name
    if now - each.pod.created <= max(policy.rpo, START):
        return Said(_STARTING, f"{name} has not been snapshotted yet.")
    report = each.report if each.report is not None and each.report.uid == each.pod.uid else None
    since = f"its newest snapshot is {_show(each.age)} old" if each.age is not None else "it has no snapshot"
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
        text = f"{name} has not reported for {_show(each.silent)}; {since}. See the log of its agent"
        return Said("ReportStale", f"{text} and whether its node reaches the store.")
    return Said("Late", f"{name}: {since}, the target is {_show(policy.rpo)}. Lengthen the interval or the target.")


def _is_silent(each: PodFacts, policy: Policy) -> bool:
    return each.silent is not None and each.silent > max(policy.rpo, _SILENT_TURNS * policy.every)


def _protected(facts: Facts) -> Condition:
    reports = [(each.pod.name, each.report) for each in _members(facts) if each.report is not None]
    aside = [(name, report.quarantined) for name, report in reports if report.quarantined]
    if aside:
        name, incarnation = aside[0]
        text = f"{name}: process {incarnation} started without its member's state; its captures are put aside"
        step = "fix the app's restore and restart it, or let this process go on as docs/status.md tells"
        return Condition(Type.PROTECTED, Is.FALSE, str(Outcome.QUARANTINED), f"{text}. Next: {step}.")
    silent = [name for name, report in reports if report.incarnation and not report.proven]
    if silent:
        text = f"{_names(silent)}: the app does not say which snapshot it restored, so a wrong restore can't be noticed"
        step = "send the headers Resonance-Incarnation and Resonance-Restored-From with the export"
        return Condition(Type.PROTECTED, Is.FALSE, "AppDoesNotProve", f"{text}. Next: {step}.")
    if not any(report.incarnation for _, report in reports):
        return Condition(Type.PROTECTED, Is.UNKNOWN, "NothingCaptured", "no app has been captured yet.")
    return Condition(Type.PROTECTED, Is.TRUE, "Proven", "every app proves which state it goes on from.")


def _restorable(facts: Facts) -> Condition:
    opened = [(each, each.verified) for each in _members(facts) if each.head is not None]
    bad = [(each, seen) for each, seen in opened if seen is not None and seen.proved is Proved.DAMAGED]
    if bad:
        each, seen = bad[0]
        text = f"{each.pod.name}: snapshot {seen.id} does not verify. {seen.detail}"
        return Condition(Type.RESTORABLE, Is.FALSE, "HeadDamaged", text)
    if not opened:
        return Condition(Type.RESTORABLE, Is.UNKNOWN, "NoSnapshot", "there is no snapshot yet.")
    unseen = [each.pod.name for each, seen in opened if seen is None]
    if unseen:
        text = f"the head of {_names(unseen)} has not been opened yet."
        return Condition(Type.RESTORABLE, Is.UNKNOWN, "NotVerifiedYet", text)
    large = [each.pod.name for each, seen in opened if seen is not None and seen.proved is Proved.TOO_LARGE]
    if large:
        text = f"every head is there; those of {_names(large)} are too large to be opened by the operator."
        return Condition(Type.RESTORABLE, Is.TRUE, "NotAllOpened", text)
    return Condition(
        Type.RESTORABLE, Is.TRUE, "Verified", "the head of every member was opened and matches its digest."
    )


def _accepted_since(previous: Mapping[str, Any] | None) -> datetime | None:
    for each in (previous or {}).get("conditions") or ():
        if each.get("type") == Type.ACCEPTED and each.get("status") == Is.TRUE:
            return datetime.fromisoformat(str(each["lastTransitionTime"]))
    return None


# ------------------------------------------------------------------------------------------------- figures, rows, agent


def _members(facts: Facts) -> list[PodFacts]:
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


Row = tuple[bool, Status]


def _rows(facts: Facts, policy: Policy) -> list[Row]:
    """(is current, row) worst first: those that miss the target, then by age, then by name."""
    found: dict[tuple[str, str], tuple[tuple[Any, ...], Row]] = {}
    for each in _members(facts):
        late = _lateness(each, policy, facts.now)
        row = _row(each, late, facts.now)
        age = each.age if each.age is not None else timedelta.max
        order = (late is None, -age.total_seconds(), row["workload"], row["member"])
        found[row["workload"], row["member"]] = (order, (late is None, row))
    return [row for _, row in sorted(found.values(), key=lambda item: item[0])]


def _row(each: PodFacts, late: Said | None, now: datetime) -> Status:
    report, head = each.report, each.head
    outcome = str(report.outcome) if report is not None else (late.reason if late is not None else "")
    row: Status = {
        "workload": each.pod.workload[:253],
        "member": (each.member or each.pod.name)[:253],
        "pod": each.pod.name,
        "node": each.pod.node,
        "outcome": outcome[:64],
        "message": (late.message if late is not None else report.message if report is not None else "")[:MAX_MESSAGE],
    }
    if each.age is not None:
        row |= {"last": _stamp(now - each.age), "age": _show(each.age)}
    if head is not None:
        row |= {"seq": head.seq, "id": head.manifest.id[:128], "bytes": head.manifest.state_bytes}
    if report is not None and report.restored_from:
        row["restoredFrom"] = report.restored_from[:128]
    return {name: value for name, value in row.items() if value != ""}


def _summary(facts: Facts, policy: Policy, rows: Sequence[Row]) -> Status:
    current = sum(each for each, _ in rows)
    reports = [each.report for each in _members(facts) if each.report is not None]
    restored = sum(each.restore in ("Restored", "KeptFile") for each in reports)
    expected = sum(each.restore not in ("", "NeverExisted") for each in reports)
    out: Status = {
        "members": f"{current}/{len(rows)}",
        "current": current,
        "total": len(rows),
        "target": _show(policy.rpo),
        "restored": f"{restored}/{expected}",
    }
    measured = measured_rpo(facts)
    return out if measured is None else out | {"rpo": _show(measured)}


def measured_rpo(facts: Facts) -> timedelta | None:
    """The worst that a member kept: the gap between its last two snapshots, or the age of the newest if longer."""
    ages = [each.age for each in _members(facts) if each.age is not None]
    gaps = [timedelta(milliseconds=each.report.gap_ms) for each in _members(facts) if each.report is not None]
    return max([*ages, *(gap for gap in gaps if gap > timedelta(0))], default=None)


def agent_of(policy: Policy, agent: AgentSettings) -> Status:
    """``status.agent``: image, and sizes from ``maxBytes``.

    The volume holds the restore file, its successor while it is written, and the final file; what is on it counts as
    memory of the containers that wrote it. The agent itself was measured with states of 100-byte entries that all
    change at every capture: 34 MiB idle, and up to 13 times the state while it captures, compares and stores it
    (10 times with 500-byte entries). ``spec.agent.resources`` overrides this.
    """
    state_size = 3 * policy.max_bytes + (1 << 20)
    memory = _AGENT_IDLE + _AGENT_COPIES * policy.max_bytes + state_size
    return {
        "image": agent.image[:512],
        "imagePullPolicy": agent.pull_policy,
        "memory": f"{_mebi(memory)}Mi",
        "stateSize": f"{_mebi(state_size)}Mi",
        "cluster": agent.cluster[:64],
    }


_AGENT_IDLE = 40 << 20
_AGENT_COPIES = 14


def _mebi(size: int) -> int:
    return -(-size // (1 << 20))


# ------------------------------------------------------------------------------------------------------- is it worth it


def decide_write(
    previous: Mapping[str, Any] | None, new: Mapping[str, Any], *, last_written_at: datetime | None, now: datetime
) -> bool:
    """Whether to write ``new`` now. ``previous`` is what the API server has; ``last_written_at`` our own last write.

    A changed condition (its status or reason), agent or generation goes out at once; anything else at the pace.
    """
    if previous is None or _urgent(previous) != _urgent(new):
        return True
    if last_written_at is not None and now - last_written_at < PACE:
        return False
    return dict(previous) != dict(new)


def _urgent(status: Mapping[str, Any]) -> object:
    said = {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions") or ()}
    return said, status.get("agent"), status.get("observedGeneration")


def transitions(told: Mapping[str, str], new: Mapping[str, Any]) -> list[Status]:
    """The conditions of ``new`` that are news. ``told`` maps type → the last status that was told; not knowing is no
    news.
    """
    return [
        each
        for each in new.get("conditions") or ()
        if each["status"] != Is.UNKNOWN and each["status"] != told.get(each["type"])
    ]


def told_by(status: Mapping[str, Any] | None) -> dict[str, str]:
    """What a status tells: type → status, without what it does not know."""
    found = {each["type"]: each["status"] for each in (status or {}).get("conditions") or ()}
    return {kind: told for kind, told in found.items() if told != Is.UNKNOWN}


def _outcome(each: PodFacts) -> Outcome | None:
    return each.report.outcome if each.report is not None else None


def _names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(ordered[:_NAMED])
    return shown if len(ordered) <= _NAMED else f"{shown} and {len(ordered) - _NAMED} more"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _show(length: timedelta) -> str:
    return show_duration(max(0, round(length.total_seconds() * 1000)))


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
