"""The three members of the sample, and what happens to them: marked, hurt, and back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from resonance.model.naming import MemberKeys
from tests.demo.proof import NONE, Comeback, Sight, Snapshot
from tests.demo.reach import EDGE, STATEFUL, Object, Reach, member_keys
from tests.demo.stage import PATIENCE, Stage

INTERVAL = 10
"""Seconds between two snapshots of the sample's policy, and ticks: the sample ticks once a second."""
SLACK = 3
"""Ticks between two looks of ours, and a capture's own time."""
LOST_IN_A_CRASH = INTERVAL + SLACK


@dataclass(frozen=True, slots=True)
class Member:
    """A member, the labels of its pod, and where Redis keeps it. ``name`` is what the story calls it."""

    name: str
    workload: str
    member: str
    labels: str

    @property
    def keys(self) -> MemberKeys:
        return member_keys(self.workload, self.member)

    def pod(self, reach: Reach) -> Object | None:
        """Its youngest pod that is not on its way out."""
        pods = [pod for pod in reach.pods(self.labels) if "deletionTimestamp" not in pod["metadata"]]
        return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)

    def sight(self, reach: Reach) -> Sight | None:
        """What its app exports now; None while there is none that answers."""
        pod = self.pod(reach)
        return reach.export(pod["metadata"]["name"]) if pod is not None else None


def named(ordinal: int) -> Member:
    """A member of the StatefulSet: its pod's name."""
    name = f"web-{ordinal}"
    return Member(name, STATEFUL, name, f"statefulset.kubernetes.io/pod-name={name}")


WEB_0, WEB_1 = named(0), named(1)
EDGE_0 = Member("edge", EDGE, "slot-0", "part=edge")
MEMBERS = (WEB_0, WEB_1, EDGE_0)


def must(stage: Stage, member: Member) -> Sight:
    """What the member's app exports; waits until it does."""
    return stage.screen.wait(f"{member.name} to answer", lambda: member.sight(stage.reach), PATIENCE)


def pod_name(stage: Stage, member: Member) -> str:
    """The name of the member's pod; waits until there is one."""
    pod = stage.screen.wait(f"the pod of {member.name}", lambda: member.pod(stage.reach), PATIENCE)
    return str(pod["metadata"]["name"])


def first_snapshot(stage: Stage, member: Member, seconds: float) -> Snapshot:
    """The member's head; waits for the first one."""
    what = f"the first snapshot of {member.name}"
    return stage.screen.wait(what, lambda: stage.reach.head(member.keys), seconds)


def mark(stage: Stage, member: Member) -> Sight:
    """Write something into the app's state that no other process can know."""
    return stage.reach.mark(pod_name(stage, member), f"only-{member.name}-{secrets.token_hex(4)}")


def mark_and_snapshot(stage: Stage, members: Sequence[Member]) -> list[tuple[Member, Sight]]:
    """Mark them, and wait until the marks are in their newest snapshots: for faults that leave no time for a flush."""
    marked = [(member, mark(stage, member)) for member in members]
    for member, sight in marked:
        marker = str(sight.state["metrics"]["marker"])
        seen = partial(stage.reach.has_marker, member.keys, marker)
        stage.screen.wait(f"a snapshot with the marker {marker}", seen, PATIENCE)
    return marked


def comebacks(
    stage: Stage, marked: Sequence[tuple[Member, Sight]], fault: Callable[[], object], allowed: int
) -> list[Comeback]:
    """Let the fault happen, and gather for each marked member how its next process starts."""
    before = [(member, sight, must(stage, member).tick, head(stage, member)) for member, sight in marked]
    began = time.monotonic()
    fault()
    found = []
    for member, sight, last_tick, newest in before:
        back = stage.screen.wait(f"{member.name} to be back", partial(another, stage, member, sight), PATIENCE)
        seconds = time.monotonic() - began
        after = stage.screen.wait(f"{member.name} to go on", partial(ticked, stage, member, back), PATIENCE)
        used = stage.reach.snapshot(member.keys, after.restored_from) if after.restored_from != NONE else None
        found.append(Comeback(member.name, sight, last_tick, newest, used, after, seconds, allowed))
    return found


def another(stage: Stage, member: Member, before: Sight) -> Sight | None:
    """What the member's app exports, once it is another process than before."""
    sight = member.sight(stage.reach)
    return sight if sight is not None and sight.incarnation != before.incarnation else None


def ticked(stage: Stage, member: Member, before: Sight) -> Sight | None:
    """What the member's app exports, once it has gone on since."""
    sight = member.sight(stage.reach)
    return sight if sight is not None and sight.tick > before.tick else None


def head(stage: Stage, member: Member) -> Snapshot:
    """The member's newest snapshot."""
    return first_snapshot(stage, member, PATIENCE)
