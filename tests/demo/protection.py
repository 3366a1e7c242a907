"""How running apps become protected: three without, a policy that adopts them, a roll-out that injects the agent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.demo.members import (
    INTERVAL,
    LOST_IN_A_CRASH,
    MEMBERS,
    Member,
    comebacks,
    first_snapshot,
    mark_and_snapshot,
    must,
)
from tests.demo.proof import Comeback, Proof, Sight, Snapshot, of_comeback, state_of
from tests.demo.reach import NAMESPACE, Object
from tests.demo.stage import PATIENCE, Stage, copy_secret, members_shown, ready_pods, sample, wait_until_ready

POLICY_KIND = "ResonanceSnapshot"


# -------------------------------------------------------------------------------------------- before there is a policy
def start_sample(stage: Stage) -> Sequence[Object]:
    stage.screen.command(
        "kubectl -n demo apply -f …  # the StatefulSet web and the Deployment edge, as anybody writes them"
    )
    stage.apply([each for each in sample(stage) if each["kind"] != POLICY_KIND])
    stage.screen.wait(
        "three apps to be ready", lambda: len(ready_pods(stage, "app=web") or ()) == len(MEMBERS), PATIENCE
    )
    stage.show("-n", NAMESPACE, "get", "pods")
    return stage.reach.pods("app=web")


def none_has_an_agent(pods: Sequence[Object]) -> Sequence[Proof]:
    agents = [each for pod in pods for each in pod["spec"].get("initContainers", ())]
    names = ", ".join(str(pod["metadata"]["name"]) for pod in pods)
    return [Proof("three apps run, no pod has an agent", not agents and len(pods) == len(MEMBERS), names)]


# ------------------------------------------------------------------------------------------------------------ adoption
@dataclass(frozen=True, slots=True)
class Adopted:
    """One member: what it exported just before the policy came, its first snapshot, and what it exports now."""

    member: Member
    before: Sight
    first: Snapshot
    now: Sight


@dataclass(frozen=True, slots=True)
class Adoption:
    members: Sequence[Adopted]
    seconds: float
    pods: Sequence[Object]


def apply_policy(stage: Stage) -> Adoption:
    stage.screen.command("kubectl -n demo apply -f -  # the Secret resonance-redis, copied from the quickstart Redis")
    copy_secret(stage)
    before = [(member, must(stage, member)) for member in MEMBERS]
    stage.screen.command("kubectl -n demo apply -f manifests/sample/policy.yaml")
    began = time.monotonic()
    stage.apply([each for each in sample(stage) if each["kind"] == POLICY_KIND])
    firsts = [first_snapshot(stage, member, PATIENCE) for member, _ in before]
    seconds = time.monotonic() - began
    stage.screen.wait("the status to count them", lambda: members_shown(stage) == "3/3", PATIENCE)
    stage.show("-n", NAMESPACE, "get", "rsnap")
    together = zip(before, firsts, strict=True)
    seen = [Adopted(member, sight, first, must(stage, member)) for (member, sight), first in together]
    return Adoption(seen, seconds, stage.reach.pods("app=web"))


def adopted_as_they_ran(seen: Adoption) -> Sequence[Proof]:
    restarts = sum(each["restartCount"] for pod in seen.pods for each in pod["status"]["containerStatuses"])
    same = all(each.before.incarnation == each.now.incarnation for each in seen.members)
    in_time = f"{seen.seconds:.1f} s after `kubectl apply`, the interval is {INTERVAL} s"
    found = [
        Proof("every member's first snapshot came within one interval", seen.seconds <= INTERVAL, in_time),
        Proof("nothing was restarted for it", same and restarts == 0, f"same processes, {restarts} restarts"),
    ]
    for each in seen.members:
        state = state_of(each.first, each.before.state)
        tick = f"tick {state['metrics']['tick']}" if state is not None else "no state of the app has this digest"
        claim = f"the first snapshot of {each.member.name} holds its state"
        found.append(Proof(claim, state is not None, f"{each.first.short}, {tick}"))
    return found


# ------------------------------------------------------------------------------------------------------------ roll-out
@dataclass(frozen=True, slots=True)
class RollOut:
    members: Sequence[Comeback]
    pods: Sequence[Object]
    ready: str


def roll_out(stage: Stage) -> RollOut:
    marked = mark_and_snapshot(stage, MEMBERS)
    words = ("-n", NAMESPACE, "rollout", "restart", "statefulset/web", "deployment/edge")
    found = comebacks(stage, marked, lambda: stage.show(*words), LOST_IN_A_CRASH)
    ready = wait_until_ready(stage)
    stage.show("-n", NAMESPACE, "get", "rsnap", "-o", "wide")
    return RollOut(found, stage.reach.pods("app=web"), ready)


def injected_and_back(seen: RollOut) -> Sequence[Proof]:
    inits = [[each["name"] for each in pod["spec"].get("initContainers", ())] for pod in seen.pods]
    everywhere = all(names[:2] == ["resonance-restore", "resonance-agent"] for names in inits)
    return [
        Proof("every pod got the agent from the API server", everywhere, f"{len(inits)} pods"),
        *(proof for member in seen.members for proof in of_comeback(member)),
        Proof("the policy says that all is well", seen.ready == "True", f"READY {seen.ready}"),
    ]
