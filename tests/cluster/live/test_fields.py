"""What the fields of a policy do to pods that run, and what the status says of apps that break the contract."""

import time

from tests.cluster.builders import policy
from tests.cluster.live.api import Object
from tests.cluster.live.network_app import assert_goes_on, assert_same
from tests.cluster.live.stage import SAVE, START, Stage, eventually
from tests.cluster.live.workloads import pod_spec, stateful_set

TURNS = 5.0  # seconds in which an agent with an interval of 1 s has captured, or not, several times


def with_flag(workload: Object, *flags: str, image: str = "") -> Object:
    """The same workload with other flags, or another image, for its app."""
    container = workload["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [*container["args"], *flags]
    container["image"] = image or container["image"]
    return workload


def test_a_new_interval_and_a_suspension_reach_pods_that_run(stage: Stage) -> None:
    stage.protect(schedule={"every": "1h"})
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    eventually("the first snapshot", SAVE, web.member.snapshot)
    stage.apply(policy(schedule={"every": "1s"}))
    web.app.tick(2)
    head = web.saved(web.app.export(), seconds=START)
    stage.apply(policy(schedule={"every": "1s", "suspend": True}))
    eventually("the agent to say so", START, lambda: web.member.report().get("outcome") == "Suspended")
    head = eventually("the head", SAVE, web.member.snapshot)
    web.app.tick(3)
    held = web.app.export()
    until = time.monotonic() + TURNS
    eventually("some turns", 2 * TURNS, lambda: time.monotonic() > until)
    still = eventually("the head", SAVE, web.member.snapshot)
    assert still.seq == head.seq, "a suspended policy takes no snapshot"
    stage.apply(policy(schedule={"every": "1s"}))
    later = web.saved(held, seconds=START)
    assert later.line == head.line
    assert stage.ready("web-0")["metadata"]["uid"] == web.uid
    assert web.container("resonance-agent")["restartCount"] == 0


def test_a_process_that_starts_without_its_state_cannot_replace_it(stage: Stage) -> None:
    """A broken app ignores its restore file: its captures are put aside, the head stays, and a mended app gets it."""
    stage.protect()
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    stage.apply(with_flag(stateful_set(), "--ignore-restore"))
    broken = stage.of_stateful_set(stage.ready("web-0", but=web.uid))
    broken.app.tick(2)
    said = stage.condition("Protected", "False")
    assert said["reason"] == "Quarantined"
    assert broken.app.export().incarnation in said["message"]
    found = eventually("the head", SAVE, web.member.snapshot)
    assert_same(before.state, found.state)
    assert found.seq == head.seq
    stage.apply(stateful_set())
    mended = stage.of_stateful_set(stage.ready("web-0", but=broken.uid))
    now = mended.app.export()
    assert_same(before.state, now.state)
    mended.app.tick()
    assert mended.saved(mended.app.export()).line == head.line
    stage.condition("Protected", "True")


def test_a_network_in_node_js_comes_back_exactly_where_it_was(stage: Stage) -> None:
    stage.installation.lab.images(["app-node"])
    stage.protect()
    stage.apply(with_flag(stateful_set(memory="192Mi"), image="localhost/app-node:lab"))
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged(ticks=7)
    web.kill()
    crashed = web.next_process(before)
    assert_same(before.state, crashed.state)
    web.app.tick(2)
    held = web.app.export()
    web.saved(held)
    stage.kubectl("delete", "pod", "web-0", "--wait=false")
    new = stage.of_stateful_set(stage.ready("web-0", but=web.uid))
    now = new.app.export()
    assert_same(held.state, now.state)
    assert now.line == head.line
    assert_goes_on(before.state, now.state)


def test_a_daemon_set_keeps_one_state_for_each_node(stage: Stage) -> None:
    stage.protect()
    labels = {"app": "web", "part": "daemon"}
    stage.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "daemon"},
            "spec": {
                "selector": {"matchLabels": {"part": "daemon"}},
                "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
            },
        }
    )
    eventually("a pod on each node", START, lambda: len(stage.pods("daemon")) == 2)
    lives = [stage.of_daemon_set(stage.ready(str(pod["metadata"]["name"]))) for pod in stage.pods("daemon")]
    held = [life.acknowledged()[0] for life in lives]
    stage.kubectl("delete", "pod", *(life.name for life in lives), "--wait=false")
    for life, before in zip(lives, held, strict=True):
        uids = tuple(each.uid for each in lives)
        node = life.pod["spec"]["nodeName"]
        new = stage.of_daemon_set(stage.ready_of("daemon", but=uids, node=node))
        assert_same(before.state, new.app.export().state)


def test_a_state_that_is_too_large_is_said_and_the_last_good_one_stays(stage: Stage) -> None:
    stage.protect(source={"http": {"port": 8080, "maxBytes": "64Ki"}})
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    web.app.set(ballast="x" * 70_000)
    said = stage.condition("Current", "False")
    assert said["reason"] == "StateTooLarge", said
    assert "maxBytes" in said["message"]
    found = eventually("the head", SAVE, web.member.snapshot)
    assert found.seq == head.seq
    web.kill()
    assert_same(before.state, web.next_process(before).state)
    web.app.tick()
    web.saved(web.app.export())
    stage.condition("Current", "True")


def test_an_empty_start_that_a_user_chose_replaces_nothing(stage: Stage) -> None:
    """`restore.onUnknown: StartEmpty` while Redis is away: the app runs, the head stays for a person to decide."""
    stage.own_redis()
    stage.protect(restore={"onUnknown": "StartEmpty"})
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    stage.kubectl("scale", "statefulset/redis", "--replicas=0")
    eventually("Redis to be away", START, lambda: stage.pod("redis-0") is None)
    stage.kubectl("delete", "pod", "web-0", "--wait=false")
    empty = stage.of_stateful_set(stage.ready("web-0", but=web.uid))
    assert empty.app.export().restored_from == "none"
    stage.kubectl("scale", "statefulset/redis", "--replicas=1")
    stage.redis_ready()
    said = stage.condition("Protected", "False", seconds=2 * START)
    assert said["reason"] == "Quarantined"
    found = eventually("the head", SAVE, web.member.snapshot)
    assert_same(before.state, found.state)
    assert found.seq == head.seq
