"""Redis restarts, is away, or cannot be reached from one node: nothing acknowledged is lost, nobody starts empty.

Each test breaks a quickstart Redis of its own.
"""

from tests.cluster.live.api import Object
from tests.cluster.live.network_app import assert_goes_on, assert_same
from tests.cluster.live.stage import START, Stage, eventually
from tests.cluster.live.workloads import deployment, stateful_set
from tests.lab import Cut
from tests.lab.waiting import within

AGENT_LOOKS_AGAIN = 60.0  # seconds: an agent tries a store that was away at least each half minute


def test_a_restarted_redis_keeps_every_acknowledged_snapshot(stage: Stage) -> None:
    stage.own_redis()
    stage.protect()
    stage.apply(stateful_set("web", "--tick-ms=100"))
    web = stage.of_stateful_set(stage.ready("web-0"))
    for restart in ("process killed", "pod deleted"):
        now = eventually("a snapshot", START, web.member.snapshot)
        eventually("three more", START, web.member.newer(now.seq + 2))
        redis = stage.redis_ready()
        kept = {each["id"]: each["digest"] for each in web.member.manifests()}
        if restart == "process killed":
            stage.installation.lab.kill(f"{stage.namespace}/redis-0/redis")
            within(START, "Redis to be restarted", lambda: restarts(stage.pod("redis-0")) == 1)
        else:
            stage.kubectl("delete", "pod", "redis-0", "--wait=false")
            stage.ready("redis-0", but=redis["metadata"]["uid"])
        found = eventually("Redis to answer", START, web.member.manifests)
        assert kept.items() <= {each["id"]: each["digest"] for each in found}.items()
        newest = max(each["seq"] for each in found)
        moved = eventually("snapshots to go on", AGENT_LOOKS_AGAIN, web.member.newer(newest))
        assert_goes_on(moved.state, web.app.export().state)
    assert web.container("resonance-agent")["restartCount"] == 0


def restarts(pod: Object | None) -> int:
    """How often the first container of a pod was started again."""
    count: int = pod["status"]["containerStatuses"][0]["restartCount"] if pod is not None else 0
    return count


def test_a_pod_that_starts_while_redis_is_away_waits_and_then_gets_its_state(stage: Stage) -> None:
    stage.own_redis()
    stage.protect()
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    stage.kubectl("scale", "statefulset/redis", "--replicas=0")
    eventually("Redis to be away", START, lambda: stage.pod("redis-0") is None)
    stage.kubectl("delete", "pod", "web-0", "--wait=false")
    waiting = eventually("web-0 to wait in its init hook", START, lambda: stage.waiting("web-0", but=web.uid))
    said = stage.condition("StoreReachable", "False")
    assert "Redis at redis." in said["message"]
    hook = ("logs", "web-0", "-c", "resonance-restore")
    eventually("the hook to say why", START, lambda: "StoreUnreachable" in stage.kubectl(*hook))
    stage.kubectl("scale", "statefulset/redis", "--replicas=1")
    stage.redis_ready()
    now = stage.of_stateful_set(stage.ready("web-0", but=web.uid, seconds=AGENT_LOOKS_AGAIN))
    assert now.uid == waiting["metadata"]["uid"], "the pod that waited is the one that starts"
    assert_same(before.state, now.app.export().state)
    assert now.app.export().line == head.line
    stage.condition("StoreReachable", "True")
    stage.condition("Ready", "True")


def test_a_redis_that_lost_everything_is_filled_again_by_the_pods_that_run(stage: Stage) -> None:
    stage.own_redis()
    stage.protect()
    stage.apply(stateful_set(), deployment())
    web, edge = stage.of_stateful_set(stage.ready("web-0")), stage.of_deployment(stage.ready_of("edge"))
    heads = [life.acknowledged()[1] for life in (web, edge)]
    stage.kubectl("delete", "statefulset/redis", "--wait=true")
    eventually("Redis to be gone", START, lambda: stage.pod("redis-0") is None)
    stage.kubectl("delete", "persistentvolumeclaim", "--all", "--wait=true")
    stage.own_redis()
    for life in (web, edge):
        life.app.tick()
    held = [life.app.export() for life in (web, edge)]
    found = [life.saved(each, seconds=AGENT_LOOKS_AGAIN) for life, each in zip((web, edge), held, strict=True)]
    assert [each.line for each in found] == [each.line for each in heads]
    stage.kubectl("delete", "pod", web.name, edge.name, "--wait=false")
    after = (
        stage.of_stateful_set(stage.ready("web-0", but=web.uid)),
        stage.of_deployment(stage.ready_of("edge", but=(edge.uid,))),
    )
    for before, new in zip(held, after, strict=True):
        assert_same(before.state, new.app.export().state)
    assert set(edge.member.slots()) == {"slot-0"}


def test_a_node_without_redis_is_said_and_heals(stage: Stage) -> None:
    lab = stage.installation.lab
    stage.own_redis()
    stage.protect()
    elsewhere = next(n for n in ("node1", "node2") if n != stage.redis_ready()["spec"]["nodeName"])
    workload = stateful_set()
    workload["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": elsewhere}
    stage.apply(workload)
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    stage.condition("Current", "True")
    lab.cut(elsewhere, Cut.REDIS, [f"{stage.redis_address}:6379"])
    try:
        web.app.tick(4)
        away = web.app.export()
        said = stage.condition("Current", "False")
        assert "web-0" in said["message"]
        web.kill()
        now = web.next_process(away)
        assert_goes_on(before.state, now.state)
        assert now.tick == away.tick, "the file in the pod is kept current without Redis"
    finally:
        lab.heal(elsewhere)
    web.app.tick()
    later = web.saved(web.app.export(), seconds=AGENT_LOOKS_AGAIN)
    assert_goes_on(before.state, later.state)
    assert later.line == head.line
    stage.condition("Current", "True", seconds=AGENT_LOOKS_AGAIN)
