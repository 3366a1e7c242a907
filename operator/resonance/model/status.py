"""The status of a policy: conditions with their times, figures, rows and sizes; and whether it is worth a write.

A changed condition goes out at once, anything else at most once in :data:`PACE` and only if something that is shown
changed: so a settled policy costs the API server two small writes a minute, whatever its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from resonance.model.acceptance import Said
from resonance.model.conditions import Condition, Is, Type, conditions_of, lateness
from resonance.model.facts import AgentSettings, Facts, PodFacts, measured_rpo, members_of, shown
from resonance.model.resource import Policy

PACE = timedelta(seconds=30)
MAX_MEMBERS = 50
MAX_MESSAGE = 1024
Status = dict[str, Any]


def status_of(facts: Facts, previous: Mapping[str, Any] | None) -> Status:
    """The whole status. ``previous`` is the one before: a condition that did not change keeps its transition time."""
    policy = facts.policy
    status = _written(facts, conditions_of(facts, _accepted_since(previous)), previous)
    if not isinstance(policy, Policy):
        return status
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


def _accepted_since(previous: Mapping[str, Any] | None) -> datetime | None:
    for each in (previous or {}).get("conditions") or ():
        if each.get("type") == Type.ACCEPTED and each.get("status") == Is.TRUE:
            return datetime.fromisoformat(str(each["lastTransitionTime"]))
    return None


Row = tuple[bool, Status]


def _rows(facts: Facts, policy: Policy) -> list[Row]:
    """(is current, row) worst first: those that miss the target, then by age, then by name."""
    found: dict[tuple[str, str], tuple[tuple[Any, ...], Row]] = {}
    for each in members_of(facts):
        late = lateness(each, policy, facts.now)
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
        row |= {"last": _stamp(now - each.age), "age": shown(each.age)}
    if head is not None:
        row |= {"seq": head.seq, "id": head.manifest.id[:128], "bytes": head.manifest.state_bytes}
    if report is not None and report.restored_from:
        row["restoredFrom"] = report.restored_from[:128]
    row["handOverGap"] = each.hand_over_gap[:64]
    return {name: value for name, value in row.items() if value != ""}


def _summary(facts: Facts, policy: Policy, rows: Sequence[Row]) -> Status:
    current = sum(each for each, _ in rows)
    reports = [each.report for each in members_of(facts) if each.report is not None]
    restored = sum(each.restore in ("Restored", "KeptFile") for each in reports)
    expected = sum(each.restore not in ("", "NeverExisted") for each in reports)
    out: Status = {
        "members": f"{current}/{len(rows)}",
        "current": current,
        "total": len(rows),
        "target": shown(policy.rpo),
        "restored": f"{restored}/{expected}",
    }
    measured = measured_rpo(facts)
    return out if measured is None else out | {"rpo": shown(measured)}


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


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
