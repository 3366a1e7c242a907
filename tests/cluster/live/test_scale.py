"""Scaling and undoing keep every member's state, and never mix two of them."""

import json

from tests.cluster.live.installation import is_ready as ready
from tests.cluster.live.network_app import Exported, assert_same
from tests.cluster.live.stage import START, Life, Stage, eventually
from tests.cluster.live.workloads import Replace, deployment, stateful_set


def test_a_stateful_set_that_is_scaled_down_and_up_gets_its_states_back(stage: Stage) -> None:
    stage.protect()
    stage.apply(stateful_set(replicas=3))
    lives = [stage.of_stateful_set(stage.ready(f"web-{index}")) for index in range(3)]
    held = [life.acknowledged()[0] for life in lives]
    stage.kubectl("scale", "statefulset/web", "--replicas=1")
    eventually("two pods to go", START, lambda: len(stage.pods("web")) == 1)
    stage.kubectl("scale", "statefulset/web", "--replicas=3")
    for life, before in zip(lives[1:], held[1:], strict=True):
        now = stage.of_stateful_set(stage.ready(life.name, but=life.uid)).app.export()
        assert_same(before.state, now.state)
    assert lives[0].app.export().incarnation == held[0].incarnation


def marked(life: Life) -> tuple[str, Exported]:
    """What a life holds, by the mark that only it has."""
    held = life.app.export()
    return str(held.state["metrics"]["mark"]), held


def test_a_deployment_that_is_scaled_down_and_up_gets_its_slots_back(stage: Stage) -> None:
    stage.protect()
    stage.apply(deployment(replicas=2, replace=Replace.RECREATE))
    eventually("two pods", START, lambda: len([p for p in stage.pods("edge") if ready(p)]) == 2)
    member = stage.member("Deployment.edge", "slot-0")
    eventually("two members", START, lambda: set(member.slots()) == {"slot-0", "slot-1"})
    by_uid = {record["holder"]: name for name, record in member.slots().items()}
    lives = [stage.of_deployment(pod, slot=by_uid[pod["metadata"]["uid"]]) for pod in stage.pods("edge")]
    held = dict(marked_after(life) for life in lives)
    stage.kubectl("scale", "deployment/edge", "--replicas=1")
    eventually("one pod to go", START, lambda: len(stage.pods("edge")) == 1)
    stage.kubectl("scale", "deployment/edge", "--replicas=2")
    eventually("two pods", START, lambda: len([p for p in stage.pods("edge") if ready(p)]) == 2)
    found = dict(marked(stage.of_deployment(pod)) for pod in stage.pods("edge"))
    assert found.keys() == held.keys(), "each state is in exactly one pod"
    for mark, now in found.items():
        assert_same(held[mark].state, now.state)
    assert set(member.slots()) == {"slot-0", "slot-1"}
    stage.kubectl("scale", "deployment/edge", "--replicas=3")
    third = stage.ready_of("edge", but=tuple(str(pod["metadata"]["uid"]) for pod in stage.pods("edge") if ready(pod)))
    assert stage.of_deployment(third).app.export().restored_from == "none", "a new member takes nobody's state"
    assert set(member.slots()) == {"slot-0", "slot-1", "slot-2"}


def marked_after(life: Life) -> tuple[str, Exported]:
    """Give a life a mark of its own, acknowledged."""
    held, _ = life.acknowledged()
    return str(held.state["metrics"]["mark"]), held


def test_a_roll_out_that_gets_stuck_and_is_undone_keeps_the_state(stage: Stage) -> None:
    """The broken newcomer never becomes ready; the old pod stays the writer all the time, and after the undo too."""
    stage.protect()
    stage.apply(deployment("wave", replace=Replace.SURGE))
    old = stage.of_deployment(stage.ready_of("wave"))
    old.acknowledged()
    broken = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--nodes=1"}]
    stage.kubectl("patch", "deployment/wave", "--type=json", f"-p={json.dumps(broken)}")
    eventually("the newcomer to fail", START, lambda: any(fails(p) for p in stage.pods("wave")))
    before, head = old.acknowledged()
    assert head.owner == old.uid, "a roll-out that is stuck takes nothing away"
    stage.kubectl("rollout", "undo", "deployment/wave")
    eventually("the newcomer to go", START, lambda: len(stage.pods("wave")) == 1)
    again, later = old.acknowledged()
    assert again.incarnation == before.incarnation
    assert (later.owner, later.line) == (old.uid, head.line)
    stage.kubectl("delete", "pod", old.name, "--wait=false")
    new = stage.of_deployment(stage.ready_of("wave", but=(old.uid,)))
    assert_same(again.state, new.app.export().state)
    assert set(new.member.slots()) == {"slot-0"}


def fails(pod: dict[str, object]) -> bool:
    """True: the app's container ended with an error."""
    status = pod["status"]
    assert isinstance(status, dict)
    return any(
        each.get("lastState", {}).get("terminated") or each.get("state", {}).get("terminated")
        for each in status.get("containerStatuses", [])
    )
