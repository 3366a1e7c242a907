"""The life of the lab: up, pods in it, faults and their end, down with nothing left, up again after a crash.

These tests take the lab down and up: whatever ran in it is gone afterwards. They leave it down.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Cut, Lab, cgroups, processes, teardown
from tests.lab.containers import ContainerName, process_of
from tests.lab.layout import ALL_NODES, NODES, REPOSITORY
from tests.lab.waiting import within

pytestmark = pytest.mark.cluster
NAMESPACE = "lab-life"
SLEEP = ["/bin/busybox", "sleep", "100000"]
ANSWER = ["/bin/busybox", "nc", "-ll", "-p", "6379", "-e", "/bin/busybox", "echo", "hello"]


def pod(name: str, node: str, command: list[str]) -> dict[str, object]:
    container = {"name": "app", "image": "localhost/pause:lab", "imagePullPolicy": "Never", "command": command}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def stateful_set() -> dict[str, object]:
    container = {
        "name": "app",
        "image": "localhost/pause:lab",
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sh", "-c", "echo kept > /data/file && exec /bin/busybox sleep 100000"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "data", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": "data"}},
            "serviceName": "data",
            "template": {
                "metadata": {"labels": {"app": "data"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {"runAsUser": 999, "fsGroup": 999},
                    "containers": [container],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A fresh lab with a server on node1 behind the service `web`, and a client on each node."""
    lab = Lab()
    lab.down()
    lab.up()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 6379}]},
    }
    lab.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    within(20, "the default service account", lambda: "default" in lab.kubectl("get", "sa", "-n", NAMESPACE))
    clients = [pod(f"client-{node}", node, SLEEP) for node in NODES]
    lab.apply([service, pod("web", "node1", ANSWER), *clients, stateful_set()])
    ready(lab, "pod/web", *(f"pod/client-{node}" for node in NODES))
    yield lab
    lab.down()


def ready(lab: Lab, *names: str) -> None:
    lab.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", *names)


def node_is(lab: Lab, node: str, status: str) -> None:
    lab.kubectl("wait", f"--for=condition=Ready={status}", "--timeout=40s", f"node/{node}")


def hears(lab: Lab, node: str) -> bool:
    """Ask the service `web`, by name, from the client on a node; not by `kubectl exec`: no API server is needed."""
    target = f"web.{NAMESPACE}.svc.cluster.local"
    client = process_of(lab.layout, ContainerName(NAMESPACE, f"client-{node}", "app"))
    enter = ["nsenter", f"--net=/proc/{client}/ns/net", f"--mount=/proc/{client}/ns/mnt", "--"]
    asked = ["/bin/busybox", "timeout", "2", "/bin/busybox", "nc", target, "6379"]
    answer = subprocess.run([*enter, *asked], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return answer.stdout == b"hello\n"


def test_up_is_quick_when_the_lab_is_up(lab: Lab) -> None:
    pids = {name: record.pid for name, record in processes.records(lab.layout).items()}
    began = time.monotonic()
    lab.up()
    assert time.monotonic() - began < 10
    assert pids == {name: record.pid for name, record in processes.records(lab.layout).items()}


def test_pods_of_both_nodes_reach_a_service_by_name(lab: Lab) -> None:
    for node in NODES:
        within(20, f"an answer on {node}", lambda node=node: hears(lab, node))  # type: ignore[misc]


def test_a_node_cut_off_from_redis_hears_it_again_when_healed(lab: Lab) -> None:
    lab.cut("node2", Cut.REDIS)
    assert not hears(lab, "node2")
    assert hears(lab, "node1")
    lab.heal("node2")
    within(20, "an answer on node2", lambda: hears(lab, "node2"))


@pytest.mark.parametrize("what", [Cut.APISERVER, Cut.EVERYTHING])
def test_a_node_cut_off_is_noticed_and_comes_back_when_healed(lab: Lab, what: Cut) -> None:
    lab.cut("node1", what)
    node_is(lab, "node1", "Unknown")
    lab.heal("node1")
    node_is(lab, "node1", "True")


def test_a_killed_container_starts_again_in_its_pod(lab: Lab) -> None:
    container = f"{NAMESPACE}/client-node2/app"
    before = lab.pid(container)
    lab.kill(container)
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}"
    within(30, "a restart", lambda: lab.kubectl("get", "-n", NAMESPACE, "pod/client-node2", "-o", restarts) == "1")
    assert lab.pid(container) != before


def test_a_paused_container_says_nothing_until_it_is_resumed(lab: Lab) -> None:
    lab.pause(f"{NAMESPACE}/web/app")
    assert not hears(lab, "node1")
    lab.resume(f"{NAMESPACE}/web/app")
    within(20, "an answer", lambda: hears(lab, "node1"))


def test_a_killed_api_server_starts_again_with_what_it_knew(lab: Lab) -> None:
    lab.kill("apiserver")
    assert lab.status()["apiserver"] == "dead"
    assert not lab.ready()
    assert hears(lab, "node1")
    lab.start("apiserver")
    lab.wait_until_ready()
    assert "web" in lab.kubectl("get", "pods", "-n", NAMESPACE)


def test_a_paused_api_server_does_not_answer(lab: Lab) -> None:
    lab.pause("apiserver")
    assert lab.status()["apiserver"] == "paused"
    assert not lab.ready()
    lab.resume("apiserver")
    lab.wait_until_ready()


def test_a_claim_gets_a_volume_and_a_released_volume_is_claimable_again(lab: Lab) -> None:
    ready(lab, "pod/data-0")
    name = lab.kubectl("get", "-n", NAMESPACE, "pvc/data-data-0", "-o", "jsonpath={.spec.volumeName}")
    assert (lab.layout.volumes / name / "file").read_text() == "kept\n"
    phase = ("get", f"pv/{name}", "-o", "jsonpath={.status.phase}")
    lab.kubectl("delete", "-n", NAMESPACE, "statefulset/data", "pvc/data-data-0", "pod/data-0", "--ignore-not-found")
    within(30, "the release", lambda: lab.kubectl(*phase) == "Released")
    lab.recycle_volumes()
    within(10, "a free volume", lambda: lab.kubectl(*phase) == "Available")
    assert not any((lab.layout.volumes / name).iterdir())


def test_the_audit_log_says_who_asked_for_what(lab: Lab) -> None:
    lab.kubectl("get", "pods", "-n", NAMESPACE)

    def seen() -> bool:
        events = [json.loads(line) for line in lab.audit_log.read_text().splitlines()]
        wanted = ("admin", "list", "pods", NAMESPACE)
        found = [
            (event["user"]["username"], event["verb"], ref.get("resource"), ref.get("namespace"))
            for event in events
            if (ref := event.get("objectRef"))
        ]
        return wanted in found and not any(user.startswith("system:node:") for user, *_ in found)

    within(10, "the line in the audit log", seen)


def namespaces_of(kind: str) -> set[str]:
    """Every network or mount namespace that some process is in."""
    found = set()
    for link in Path("/proc").glob(f"[0-9]*/ns/{kind}"):
        try:
            found.add(str(link.readlink()))
        except OSError:
            continue
    return found


def test_down_leaves_nothing_behind(lab: Lab) -> None:
    lab.pause(f"{NAMESPACE}/web/app")
    lab.pause("kubelet2")
    pids = {record.pid for record in processes.records(lab.layout).values()}
    pids |= cgroups.members(cgroups.groups_of_lab())
    first = processes.record_of(lab.layout, "holder1").pid
    held = {kind: str(Path(f"/proc/{first}/ns/{kind}").readlink()) for kind in ("net", "mnt")}
    forwarding = json.loads((lab.layout.state / teardown.SETTINGS_FILE).read_text())["settings"]["net.ipv4.ip_forward"]
    lab.down()
    assert [pid for pid in pids if processes.birth_of(pid) is not None] == []
    assert teardown.leftovers(lab.layout) == []
    assert all(held[kind] not in namespaces_of(kind) for kind in held)
    assert str(lab.layout.state) not in Path("/proc/mounts").read_text()
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert not any(node.pods in routes for node in ALL_NODES)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == forwarding
    lab.down()


@pytest.mark.parametrize("progress", ["etcd.json", "holder2.json", "kubelet1.json"])
def test_a_start_that_was_killed_halfway_is_cleared_away(lab: Lab, progress: str) -> None:
    up = subprocess.Popen([sys.executable, "-m", "tests.lab", "up"], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    within(60, f"{progress}", (lab.layout.processes / progress).is_file)
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    assert teardown.leftovers(lab.layout) != []
    assert not lab.healthy()
    lab.down()
    assert teardown.leftovers(lab.layout) == []


def test_up_works_at_once_after_a_crash_of_every_daemon(lab: Lab) -> None:
    lab.up()
    for name in processes.records(lab.layout):
        processes.kill(lab.layout, name)
    assert not lab.healthy()
    lab.up()
    assert lab.healthy()
