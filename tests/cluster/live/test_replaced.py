"""A pod that is deleted or rolled comes back with its state: StatefulSet, Deployment with Recreate and with surge.

Everything here goes on without an operator, except what a surge needs it for.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.cluster.live.installation import Installation
from tests.cluster.live.network_app import App, Exported, assert_goes_on, assert_same
from tests.cluster.live.records import Snapshot
from tests.cluster.live.stage import AWAY, START, Life, Stage, eventually, staged
from tests.cluster.live.workloads import Replace, deployment, stateful_set

PACE = 45.0  # seconds: the operator writes figures that change at most each 30 s


@pytest.fixture(scope="module", params=["one operator", "operator away", "two operators"])
def workloads(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A StatefulSet `web`, a Deployment `edge` with Recreate and one, `wave`, with the default surge."""
    with staged(installation, "replaced") as stage:
        stage.protect()
        stage.apply(stateful_set(), deployment(), deployment("wave", replace=Replace.SURGE))
        stage.ready("web-0")
        stage.ready_of("edge")
        stage.ready_of("wave")
        if request.param == "one operator":
            yield stage
        else:
            away = request.param == "operator away"
            with installation.operator_away() if away else installation.two_operators():
                yield stage


def assert_taken_over(before: Exported, head: Snapshot, newcomer: Life) -> None:
    """The newcomer began with exactly what was before, proves it, and writes the same member now."""
    now = newcomer.app.export()
    assert now.incarnation != before.incarnation
    assert_same(before.state, now.state)
    assert now.line == head.line
    newcomer.app.tick(2)
    later = newcomer.saved(newcomer.app.export())
    assert_goes_on(before.state, later.state)
    assert (later.line, later.owner) == (head.line, newcomer.uid)
    assert later.epoch > head.epoch


def test_a_deleted_stateful_pod_comes_back_with_its_state(workloads: Stage) -> None:
    web = workloads.of_stateful_set(workloads.ready("web-0"))
    before, head = web.acknowledged()
    workloads.kubectl("delete", "pod", "web-0", "--wait=false")
    assert_taken_over(before, head, workloads.of_stateful_set(workloads.ready("web-0", but=web.uid)))


@pytest.mark.parametrize("workload", ["edge", "wave"])
def test_a_deleted_pod_of_a_deployment_comes_back_with_its_state(workloads: Stage, workload: str) -> None:
    old = workloads.of_deployment(workloads.ready_of(workload))
    before, head = old.acknowledged()
    workloads.kubectl("delete", "pod", old.name, "--wait=false")
    assert_taken_over(before, head, workloads.of_deployment(workloads.ready_of(workload, but=(old.uid,))))
    assert set(old.member.slots()) == {"slot-0"}


def test_a_recreated_deployment_comes_back_with_its_state(workloads: Stage) -> None:
    old = workloads.of_deployment(workloads.ready_of("edge"))
    before, head = old.acknowledged()
    workloads.kubectl("rollout", "restart", "deployment/edge")
    assert_taken_over(before, head, workloads.of_deployment(workloads.ready_of("edge", but=(old.uid,))))
    assert set(old.member.slots()) == {"slot-0"}


def test_a_surging_deployment_hands_the_state_over_while_both_pods_run(workloads: Stage) -> None:
    old = workloads.of_deployment(workloads.ready_of("wave"))
    before, head = old.acknowledged()
    workloads.kubectl("rollout", "restart", "deployment/wave")
    assert_taken_over(before, head, workloads.of_deployment(workloads.ready_of("wave", but=(old.uid,))))
    assert set(old.member.slots()) == {"slot-0"}


def test_what_the_old_pod_of_a_surge_changes_after_the_hand_over_is_kept_as_a_tip(workloads: Stage) -> None:
    old = workloads.of_deployment(workloads.ready_of("wave"))
    before, head = old.acknowledged()
    with ticked(old.app) as ticks:
        workloads.kubectl("rollout", "restart", "deployment/wave")
        newcomer = workloads.of_deployment(workloads.ready_of("wave", but=(old.uid,)))
        now = newcomer.app.export()
        eventually(
            "the old pod to end", START, lambda: all(p["metadata"]["uid"] != old.uid for p in workloads.pods("wave"))
        )
    assert now.tick >= before.tick, "the newcomer never begins with less than was acknowledged before the roll-out"
    assert_goes_on(before.state, now.state)
    newcomer.app.tick()
    later = newcomer.saved(newcomer.app.export())
    assert_goes_on(before.state, later.state)
    assert later.line == head.line
    assert ticks[-1] > now.tick, "the old pod went on after the newcomer had restored"
    tip = old.member.tip(old.uid)
    kept = [each for each in [*old.member.kept(), *([tip] if tip else [])] if each["writer"] == old.uid]
    assert kept, "what the old pod did in between is kept"
    if workloads.installation.operator_pods():
        eventually("the status to say so", PACE, lambda: gap_of(workloads, "Deployment.wave"))


def gap_of(stage: Stage, workload: str) -> str:
    """What the status says of the hand-over of a workload's member, empty when nothing."""
    rows = stage.policy()["status"].get("members", [])
    return next((str(row.get("handOverGap", "")) for row in rows if row["workload"] == workload), "")


def test_a_pod_that_vanished_without_a_word_leaves_its_slot_to_the_next(stage: Stage) -> None:
    """Its agent could not release; the operator does, once Kubernetes says that the pod is gone."""
    stage.protect()
    stage.apply(deployment())
    old = stage.of_deployment(stage.ready_of("edge"))
    before, head = old.acknowledged()
    stage.kubectl("delete", "pod", old.name, "--force", "--grace-period=0", "--wait=false")
    old.kill("resonance-agent")
    assert_taken_over(before, head, stage.of_deployment(stage.ready_of("edge", but=(old.uid,))))
    assert set(old.member.slots()) == {"slot-0"}


@contextmanager
def ticked(app: App) -> Iterator[list[int]]:
    """Tick a network all the time until the block ends or it answers no more; gives the ticks that it acknowledged."""
    done: list[int] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.05):
            try:
                done.append(app.tick())
            except AWAY:
                continue

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
