"""The API server is away for a minute, or a node is cut off from it: snapshots and in-place restores go on."""

import time
import urllib.request

from tests.cluster.live.network_app import assert_goes_on
from tests.cluster.live.records import Snapshot
from tests.cluster.live.stage import START, Life, Stage, eventually
from tests.cluster.live.workloads import stateful_set
from tests.lab import Cut
from tests.lab.layout import NODES

MINUTE = 60.0


def test_a_pod_on_a_cut_off_node_cannot_overwrite_its_successor(stage: Stage) -> None:
    """The old pod of a StatefulSet lives on, out of Kubernetes' sight, and writes on: fenced, kept aside, said."""
    lab = stage.installation.lab
    away, here = cut_and_kept(stage)
    stage.own_redis(here)
    stage.protect()
    workload = stateful_set("web", "--tick-ms=200")
    workload["spec"]["template"]["spec"]["affinity"] = prefer(away)
    stage.apply(workload)
    old = stage.of_stateful_set(stage.ready("web-0"))
    assert old.pod["spec"]["nodeName"] == away
    head = eventually("a first snapshot", START, old.member.newer(0))
    lab.cut(away, Cut.APISERVER)
    try:
        eventually("the node to be given up", START, lambda: is_given_up(stage, away))
        stage.kubectl("delete", "pod", "web-0", "--force", "--grace-period=0")
        new = stage.of_stateful_set(stage.ready("web-0", but=old.uid))
        assert new.pod["spec"]["nodeName"] != away
        now = new.app.export()
        assert_goes_on(head.state, now.state)
        assert now.line == head.line
        mine = eventually("the newcomer's first snapshot", START, lambda: owned(new))
        tip = eventually("the old pod to be kept aside", START, lambda: new.member.tip(old.uid))
        later = eventually("the old pod to write on", START, lambda: _later(new.member.tip(old.uid), tip["seq"]))
        assert later["writer"] == old.uid
        assert fenced(old) > 0, "the old pod's agent counts that it was refused"
        head = eventually("the newcomer to write on", START, new.member.newer(mine.seq))
        assert head.owner == new.uid
        assert_goes_on(mine.state, head.state)
        assert old.app.export().incarnation != new.app.export().incarnation, "both lived all the time"
    finally:
        lab.heal(away)
    eventually("the old pod's end", START, lambda: _is_gone(old))
    last = eventually("the newcomer to write on", START, new.member.newer(head.seq))
    assert_goes_on(head.state, last.state)
    assert last.owner == new.uid


def test_snapshots_and_restores_in_place_go_on_without_an_api_server(stage: Stage) -> None:
    lab = stage.installation.lab
    stage.protect()
    stage.apply(stateful_set("web", "--tick-ms=250", replicas=2))
    calm, crashing = (stage.of_stateful_set(stage.ready(name)) for name in ("web-0", "web-1"))
    seen = eventually("a first snapshot", START, calm.member.newer(0))
    eventually("a first snapshot", START, crashing.member.newer(0))
    uids = (calm.uid, crashing.uid)
    lab.kill("apiserver")
    began = time.monotonic()
    try:
        assert_a_crash_restores(crashing)
        while time.monotonic() - began < MINUTE:
            last, seen = seen, eventually("the head to move on", 10, calm.member.newer(seen.seq))
            assert_goes_on(last.state, seen.state)
        assert_a_crash_restores(crashing)
    finally:
        lab.start("apiserver")
        lab.wait_until_ready()
        stage.installation.wait_for_operator()
    for life, uid in zip((calm, crashing), uids, strict=True):
        head = eventually("the head to move on", START, life.member.newer(0))
        assert_goes_on(head.state, life.app.export().state)
        assert stage.ready(life.name)["metadata"]["uid"] == uid
        assert head.line == head.id.rpartition(".")[0]
    assert seen.seq > MINUTE / 2, "about one snapshot a second"


def assert_a_crash_restores(web: Life) -> None:
    """Kill the process; it goes on from the newest acknowledged state or a later one."""
    before = web.app.export()
    head = web.member.snapshot()
    assert head is not None
    web.kill()
    now = web.next_process(before)
    assert_goes_on(head.state, now.state)
    assert now.line == head.line
    later = eventually("the new process to be saved", START, web.member.newer(head.seq))
    assert later.line == head.line


def cut_and_kept(stage: Stage) -> tuple[str, str]:
    """A node whose loss does not take the operator with it, and the one where the operator is."""
    kept = next(str(each["spec"]["nodeName"]) for each in stage.installation.operator_pods())
    return next(node for node in NODES if node != kept), kept


def prefer(node: str) -> dict[str, object]:
    """On that node if it can be."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}}


def is_given_up(stage: Stage, node: str) -> bool:
    """True: nothing is scheduled to it any more."""
    found = stage.installation.api.get("", "nodes", node) or {}
    return any(each["key"] == "node.kubernetes.io/unreachable" for each in found["spec"].get("taints", []))


def fenced(web: Life) -> float:
    """How many commits of this pod's agent were refused, as its metrics say."""
    url = f"http://{web.pod['status']['podIP']}:9477/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("resonance_fenced_total"))


def owned(web: Life) -> Snapshot | None:
    """The head, once this pod wrote it."""
    found = web.member.snapshot()
    return found if found is not None and found.owner == web.uid else None


def _later(tip: dict[str, object] | None, seq: int) -> dict[str, object] | None:
    return tip if tip is not None and isinstance(tip["seq"], int) and tip["seq"] > seq else None


def _is_gone(web: Life) -> bool:
    try:
        web.app.export()
    except ConnectionRefusedError:
        return True
    except OSError as problem:
        return "No route" in str(problem) or "timed out" in str(problem)
    return False
