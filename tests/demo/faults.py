"""What happens to protected apps: a pod deleted, a process killed, the operator gone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.demo.members import (
    LOST_IN_A_CRASH,
    MEMBERS,
    WEB_0,
    WEB_1,
    Member,
    comebacks,
    head,
    mark,
    mark_and_snapshot,
    pod_name,
)
from tests.demo.proof import Comeback, Proof, Snapshot, of_comeback
from tests.demo.reach import NAMESPACE, OPERATOR, SYSTEM, Object
from tests.demo.stage import PATIENCE, Stage, ready_pods, wait_until_ready
from tests.lab import Lab


def of_comebacks(seen: Sequence[Comeback]) -> Sequence[Proof]:
    return [proof for each in seen for proof in of_comeback(each)]


# -------------------------------------------------------------------------------------------------------------- faults
def delete_pod(stage: Stage, member: Member) -> list[Comeback]:
    """Delete the member's pod just after a change that no snapshot has yet."""
    marked = mark(stage, member)
    words = ("-n", NAMESPACE, "delete", "pod", pod_name(stage, member), "--wait=false")
    return comebacks(stage, [(member, marked)], lambda: stage.show(*words), allowed=0)


def kill_process(stage: Stage) -> tuple[Sequence[Comeback], Object, Object]:
    """End the app's process at once, and gather its pod before and after."""
    marked = mark_and_snapshot(stage, [WEB_1])
    before = stage.reach.pods(WEB_1.labels)[0]
    found = comebacks(stage, marked, lambda: kill(stage, WEB_1), LOST_IN_A_CRASH)
    stage.show("-n", NAMESPACE, "get", "pods")
    return found, before, stage.reach.pods(WEB_1.labels)[0]


def kill(stage: Stage, member: Member) -> None:
    """SIGKILL from outside where we own the node; elsewhere the app is told to end without a word."""
    pod = pod_name(stage, member)
    if isinstance(stage.cluster, Lab):
        stage.screen.command(f"python3 -m tests.lab kill {NAMESPACE}/{pod}/network")
        stage.cluster.kill(f"{NAMESPACE}/{pod}/network")
    else:
        stage.screen.command(f"# POST /die to {pod}: its process ends at once, with code 137")
        stage.reach.die(pod)


def killed_and_back(seen: tuple[Sequence[Comeback], Object, Object]) -> Sequence[Proof]:
    found, before, after = seen
    same = before["metadata"]["uid"] == after["metadata"]["uid"]
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in (before, after)]
    in_place = Proof(
        "it was the same pod, its process another", same and restarts[0] < restarts[1], f"restarts {restarts}"
    )
    return [in_place, *(proof for each in found for proof in of_comeback(each))]


# ---------------------------------------------------------------------------------------------------- without operator
@dataclass(frozen=True, slots=True)
class WithoutOperator:
    """Heads as the operator was gone and some time later; a pod that came back meanwhile; READY at the end."""

    before: Mapping[str, Snapshot]
    after: Mapping[str, Snapshot]
    seconds: float
    operators: int
    comebacks: Sequence[Comeback]
    ready: str
    returned: bool


def delete_operator(stage: Stage) -> WithoutOperator:
    selector = f"app={OPERATOR}"
    stage.show("-n", SYSTEM, "scale", f"deployment/{OPERATOR}", "--replicas=0")
    try:
        stage.screen.wait("the operator's pod to end", lambda: not stage.reach.pods(selector, SYSTEM), PATIENCE)
        began = time.monotonic()
        before = {member.name: head(stage, member) for member in MEMBERS}
        back = delete_pod(stage, WEB_0)
        after = {member.name: two_later(stage, member, before[member.name]) for member in MEMBERS}
        seconds = time.monotonic() - began
        operators = len(stage.reach.pods(selector, SYSTEM))
    finally:
        stage.show("-n", SYSTEM, "scale", f"deployment/{OPERATOR}", "--replicas=1")
    stage.screen.wait("the operator to be back", lambda: ready_pods(stage, selector, SYSTEM), PATIENCE)
    stage.screen.wait("the status to know newer snapshots", lambda: caught_up(stage, after), PATIENCE)
    ready = wait_until_ready(stage)
    stage.show("-n", NAMESPACE, "get", "rsnap")
    return WithoutOperator(before, after, seconds, operators, back, ready, caught_up(stage, after))


def two_later(stage: Stage, member: Member, old: Snapshot) -> Snapshot:
    """The member's head once it is at least two snapshots newer: one may have been under way."""

    def newer() -> Snapshot | None:
        found = stage.reach.head(member.keys)
        return found if found is not None and found.seq >= old.seq + 2 else None

    return stage.screen.wait(f"two more snapshots of {member.name}", newer, PATIENCE)


def caught_up(stage: Stage, heads: Mapping[str, Snapshot]) -> bool:
    """True once the status shows every member at or after these heads."""
    rows = stage.reach.policy().get("status", {}).get("members", ())
    shown = {(row.get("workload"), row["member"]): int(row.get("seq", 0)) for row in rows}
    return all(shown.get((each.workload, each.member), 0) >= heads[each.name].seq for each in MEMBERS)


def went_on(seen: WithoutOperator) -> Sequence[Proof]:
    moved = ", ".join(f"{name} {seen.before[name].seq} → {seen.after[name].seq}" for name in seen.before)
    on = seen.operators == 0 and all(seen.after[name].seq >= seen.before[name].seq + 2 for name in seen.before)
    return [
        Proof("snapshots went on while no operator ran", on, f"{moved}, in {seen.seconds:.0f} s"),
        *(proof for each in seen.comebacks for proof in of_comeback(each)),
        Proof("the operator is back and says so", seen.returned and seen.ready == "True", f"READY {seen.ready}"),
    ]
