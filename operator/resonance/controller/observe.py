"""Gathering: what Redis has of a policy's workloads, joined with the pods, as the facts that decisions and status use.

Runs in a worker thread; two reads for each workload, one for its small records and one for its members' heads and
reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from resonance.model.errors import StoreDamaged
from resonance.model.facts import PodFacts, Proved, Verified
from resonance.model.manifest import Head
from resonance.model.naming import WorkloadKeys
from resonance.model.pod import Pod
from resonance.model.report import Report
from resonance.model.resource import Policy
from resonance.model.units import show_duration
from resonance.store.aside import Aside, parse_asides
from resonance.store.keyspace import Hash, Keyspace, Query
from resonance.store.workload import WorkloadRecord, read_workload

_MEMBERS_A_READ = 100


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """One member's head, report, and what superseded pods have aside. ``damage`` says what of them does not parse."""

    head: Head | None = None
    report: Report | None = None
    damage: str = ""
    asides: tuple[Aside, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadSeen:
    """One workload's records. ``at_ms`` is the Redis clock of the reading."""

    record: WorkloadRecord
    members: Mapping[str, MemberSeen] = field(default_factory=dict)
    at_ms: int = 0

    def previous_of(self, uid: str) -> str | None:
        """The member that this pod wrote last, as far as Redis knows, None if none."""
        for name, each in self.members.items():
            wrote = each.head is not None and each.head.owner == uid
            if wrote or (each.report is not None and each.report.uid == uid):
                return name
        return None


def look(keyspace: Keyspace, workloads: Mapping[str, WorkloadKeys]) -> dict[str, WorkloadSeen]:
    """Read every workload. Raises store errors."""
    return {workload: _look_at(keyspace, keys) for workload, keys in workloads.items()}


def _look_at(keyspace: Keyspace, keys: WorkloadKeys) -> WorkloadSeen:
    record = read_workload(keyspace, keys)
    members: dict[str, MemberSeen] = {}
    at_ms = record.at_ms
    known = record.policy.known if record.policy is not None else {}
    names = sorted({*record.slots, *known})
    for start in range(0, len(names), _MEMBERS_A_READ):
        part = names[start : start + _MEMBERS_A_READ]
        queries: list[Query] = []
        for name in part:
            queries += [Hash(keys.member(name).head), Hash(keys.member(name).report), Hash(keys.member(name).aside)]
        seen = keyspace.read(queries)
        at_ms = seen.at_ms
        for index, name in enumerate(part):
            members[name] = _member([seen.hash(3 * index + place) for place in range(3)], keys, name)
    return WorkloadSeen(record, members, at_ms)


def _member(raw: Sequence[Mapping[bytes, bytes]], keys: WorkloadKeys, name: str) -> MemberSeen:
    head, report, aside = raw
    where = keys.member(name)
    damage = []
    parsed_head, parsed_report = None, None
    try:
        parsed_head = Head.from_fields(head, where=where.head)
    except StoreDamaged as error:
        damage.append(str(error))
    try:
        parsed_report = Report.from_fields(report, where=where.report)
    except StoreDamaged as error:
        damage.append(str(error))
    asides: tuple[Aside, ...] = ()
    try:
        asides = parse_asides(aside, where=where.aside)
    except StoreDamaged as error:
        damage.append(str(error))
    return MemberSeen(parsed_head, parsed_report, " ".join(damage), asides)


def join(
    policy: Policy,
    pods: Iterable[Pod],
    seen: Mapping[str, WorkloadSeen],
    *,
    own: Mapping[str, Report],
    verified: Mapping[tuple[str, str], Verified],
    elapsed: timedelta,
) -> tuple[PodFacts, ...]:
    """Facts of every pod. ``own`` maps pod uid → report of a session of ours; ``elapsed`` is how old ``seen`` is."""
    return tuple(_facts(policy, pod, seen.get(pod.workload), own, verified, elapsed) for pod in pods)


def _facts(
    policy: Policy,
    pod: Pod,
    seen: WorkloadSeen | None,
    own: Mapping[str, Report],
    verified: Mapping[tuple[str, str], Verified],
    elapsed: timedelta,
) -> PodFacts:
    ignored = "" if pod.identity(policy.identity) is not None else pod.kind
    if seen is None:
        return PodFacts(pod, ignored)
    member, reserved = _place(pod.uid, seen)
    waiting = str(seen.record.waiting.get(pod.uid, {}).get("reason", "")) if member is None else ""
    if member is None:
        return PodFacts(pod, ignored, waiting=waiting, report=own.get(pod.uid))
    found = seen.members.get(member, MemberSeen())
    report = found.report
    age, silent = None, None
    if report is not None and report.at_ms >= 0:
        silent = _since(seen.at_ms, report.at_ms) + elapsed
        if report.taken_ago_ms >= 0:
            age = silent + timedelta(milliseconds=report.taken_ago_ms)
    opened = verified.get((pod.workload, member))
    if found.damage:
        opened = Verified(Proved.DAMAGED, member, found.damage)
    gap = _hand_over_gap(found)
    return PodFacts(pod, ignored, member, reserved, "", found.head, report, age, silent, opened, gap)


def _hand_over_gap(found: MemberSeen) -> str:
    """What the last superseded pod did beside the history; empty when it took the member over again."""
    last = next(iter(found.asides), None)
    if last is None or last.gap_ms < 0 or (found.head is not None and found.head.owner == last.uid):
        return ""
    return f"{show_duration(last.gap_ms)} of {last.pod}"


def _since(now_ms: int, then_ms: int) -> timedelta:
    return timedelta(milliseconds=max(0, now_ms - then_ms))


def _place(uid: str, seen: WorkloadSeen) -> tuple[str | None, bool]:
    for name, record in seen.record.slots.items():
        if record.holder == uid:
            return name, False
    for name, record in seen.record.slots.items():
        if record.next is not None and record.next.uid == uid:
            return name, True
    return None, False


def selected(policy: Policy, pods: Sequence[Pod]) -> list[Pod]:
    """The pods that the policy means and that are not over; one that is being ended still writes."""
    return [pod for pod in pods if not pod.over and policy.selects(pod.namespace, pod.labels)]
