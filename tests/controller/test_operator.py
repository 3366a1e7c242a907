"""The operator as a process, against a real API server and a real TLS Redis. Tests play the kubelet."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resonance.model.naming import workload_keys
from resonance.model.pod import parse_pod
from resonance.store.member import Member, load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore
from resonance.store.workload import read_workload
from tests.apps.process import PYTHON_NETWORK, App, free_port
from tests.cluster.control_plane import REPOSITORY, Kubectl, Refused, api_server, wait_for
from tests.controller.builders import Object, merge
from tests.redis_server import TlsRedis

pytestmark = [pytest.mark.cluster, pytest.mark.redis]
PORT = 16843
SPEC: Object = {
    "selector": {"matchLabels": {"app": "web"}},
    "store": {"secretRef": {"name": "resonance-redis"}},
}


@dataclass
class Operator:
    """The program, started as the image starts it, with ``$KUBECONFIG`` instead of a service account."""

    kubectl: Kubectl
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    port: int = 0

    def start(self) -> None:
        """Start it and wait until it watches."""
        self.port = free_port()
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubectl.kubeconfig),
            "RESONANCE_AGENT_IMAGE": "example/agent:1",
            "METRICS_PORT": str(self.port),
        }
        with (self.folder / "operator.log").open("ab") as log:
            command = [sys.executable, "-m", "resonance.controller.main"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        for _ in wait_for("the operator is ready", 30):
            assert self.process.poll() is None, (self.folder / "operator.log").read_text()[-3000:]
            if self.ask("/readyz") == (200, "ok\n"):
                return

    def ask(self, path: str) -> tuple[int, str]:
        """One GET of its own endpoint; (0, '') while it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def end(self, number: signal.Signals) -> int:
        """Send a signal and give the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(15)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with api_server(tmp_path_factory.mktemp("operator-api"), PORT) as kubectl:
        kubectl("apply", "-k", str(REPOSITORY / "crds"))
        kubectl("wait", "--for=condition=Established", "crd/resonancesnapshots.resonance.dev", "--timeout=30s")
        yield kubectl


@pytest.fixture(scope="module")
def redis() -> Iterator[TlsRedis]:
    with TlsRedis() as running:
        yield running


@pytest.fixture
def operator(server: Kubectl, tmp_path: Path) -> Iterator[Operator]:
    running = Operator(server, tmp_path)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def app() -> Iterator[App]:
    with App.network(PYTHON_NETWORK) as running:
        yield running.until_serving()


@pytest.fixture
def place(server: Kubectl, redis: TlsRedis, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of its own with the Secret; policies in it are deleted afterwards."""
    name = f"op-{abs(hash(request.node.name)) % 10**8}"
    server.namespace(name)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "resonance-redis"}}
    server.apply({**secret, "stringData": redis.secret}, name)
    yield name
    server("delete", "rsnap", "--all", "-n", name)


def protect(server: Kubectl, place: str, name: str = "web", **spec: Any) -> None:
    wanted = {
        "apiVersion": "resonance.dev/v1alpha1",
        "kind": "ResonanceSnapshot",
        "metadata": {"name": name},
        "spec": merge({**SPEC, "source": {"http": {"port": 8080}}}, spec),
    }
    server.apply(wanted, place)


def run_pod(server: Kubectl, place: str, name: str) -> None:
    """A bare pod, running on loopback as far as anybody can tell."""
    wanted = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": "example/app:1"}]},
    }
    server.apply(wanted, place)
    container = {
        "name": "app",
        "image": "example/app:1",
        "imageID": "x",
        "containerID": "containerd://1",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
    status = {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container],
    }
    patch = json.dumps({"status": status})
    server("patch", "pod", name, "-n", place, "--subresource=status", "--type=merge", "-p", patch)


def policy(server: Kubectl, place: str, name: str = "web") -> Object:
    found: Object = json.loads(server("get", "rsnap", name, "-n", place, "-o", "json"))
    return found


def conditions(server: Kubectl, place: str, name: str = "web") -> dict[str, tuple[str, str]]:
    found = policy(server, place, name).get("status", {}).get("conditions", [])
    return {each["type"]: (each["status"], each["reason"]) for each in found}


def until(said: str, true: Callable[[], object], seconds: float = 15) -> float:
    began = time.monotonic()
    for _ in wait_for(said, seconds):
        if true():
            break
    return time.monotonic() - began


def test_a_running_pod_is_snapshotted_within_one_interval_and_the_snapshot_is_its_state(
    server: Kubectl, redis: TlsRedis, operator: Operator, app: App, place: str
) -> None:
    run_pod(server, place, "web-0")
    port = app.connection.port
    protect(server, place, source={"http": {"port": port}})
    keys = workload_keys("resonance", place, "web", "Pod.web-0")
    member = Member("web-0", keys.member("web-0"), keys)
    keyspace = RedisKeyspace(redis.settings)
    took = until("a head stands", lambda: load(keyspace, member).record.head is not None)
    assert took < 10
    restored = restore(keyspace, member, load(keyspace, member), max_bytes=8 << 20)
    exported = app.export().content
    assert restored is not None
    kept = {kind: {key: json.loads(raw) for key, raw in found.items()} for kind, found in restored.state.kinds.items()}
    assert kept == {kind: found for kind, found in exported.items() if kind not in ("metrics", "snapshot")}
    assert json.loads(restored.state.metrics or b"null") == exported["metrics"]
    until("the status says so", lambda: conditions(server, place).get("Restorable") == ("True", "Verified"))
    status = policy(server, place)["status"]
    assert status["summary"]["members"] == "1/1"
    assert status["members"][0]["id"] == restored.manifest.id
    assert conditions(server, place)["Injected"] == ("False", "Adopted")
    row = server("get", "rsnap", "web", "-n", place, "-o", "wide").splitlines()[1]
    assert f"localhost:{redis.port}" in row
    code, metrics = operator.ask("/metrics")
    assert code == 200
    assert f'resonance_snapshot_saves_total{{namespace="{place}",outcome="Saved",policy="web"}} 1.0' in metrics
    keyspace.close()


def test_nothing_of_ours_is_left_in_the_object_but_its_status(server: Kubectl, operator: Operator, place: str) -> None:
    protect(server, place)
    until("accepted", lambda: conditions(server, place).get("Accepted") == ("True", "Accepted"), seconds=5)
    meta = policy(server, place)["metadata"]
    assert "finalizers" not in meta
    assert set(meta.get("annotations", {})) <= {"kubectl.kubernetes.io/last-applied-configuration"}


def test_deleting_a_policy_takes_no_time_and_leaves_a_tombstone_and_the_data(
    server: Kubectl, redis: TlsRedis, operator: Operator, app: App, place: str
) -> None:
    run_pod(server, place, "web-0")
    protect(server, place, source={"http": {"port": app.connection.port}})
    keyspace = RedisKeyspace(redis.settings)
    keys = workload_keys("resonance", place, "web", "Pod.web-0")
    member = Member("web-0", keys.member("web-0"), keys)
    until("a head stands", lambda: load(keyspace, member).record.head is not None)
    server("delete", "rsnap", "web", "-n", place, "--timeout=2s")

    def buried() -> bool:
        record = read_workload(keyspace, keys).policy
        return record is not None and record.deleted

    until("the agents are told", buried)
    assert load(keyspace, member).record.head is not None
    keyspace.close()


def test_the_injection_names_the_workload_as_adoption_does(server: Kubectl, operator: Operator, place: str) -> None:
    protect(server, place)
    until("accepted", lambda: conditions(server, place).get("Accepted") == ("True", "Accepted"))
    server("apply", "-k", str(REPOSITORY / "manifests/injection"))
    try:
        for kind, owner, labels in (
            ("StatefulSet", "web", {"controller-revision-hash": "web-5f"}),
            ("ReplicaSet", "web-7d4f", {"pod-template-hash": "7d4f"}),
            ("ReplicaSet", "web-7d4f", {}),
            ("ReplicaSet", "7d4f", {"pod-template-hash": "7d4f"}),
            ("DaemonSet", "edge", {"controller-revision-hash": "1"}),
        ):
            told = injected(server, place, kind, owner, labels)
            raw = told | {"metadata": {**told["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}}
            found = parse_pod(raw)
            agent = next(each for each in told["spec"]["initContainers"] if each["name"] == "resonance-agent")
            env = {each["name"]: each.get("value", "") for each in agent["env"]}
            assert env["RESONANCE_WORKLOAD"] == found.workload
            assert env["RESONANCE_IDENTITY"] == found.identity(None)
            assert env["RESONANCE_TEMPLATE"] == found.template
            assert env["RESONANCE_CLUSTER"] != ""
            assert found.mark == "web"
            assert agent["image"] == "example/agent:1"
            assert agent["resources"]["limits"]["memory"] == "177Mi"
    finally:
        server("delete", "-k", str(REPOSITORY / "manifests/injection"))


def injected(server: Kubectl, place: str, kind: str, owner: str, labels: Object) -> Object:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": True}
    wanted = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "labels": {"app": "web", **labels}, "ownerReferences": [reference]},
        "spec": {"containers": [{"name": "app", "image": "example/app:1"}]},
    }
    for _ in wait_for("the pod is injected", 40):
        try:
            kept = server.dry_run(wanted, place)
        except Refused:
            continue
        if kept["spec"].get("initContainers"):
            return kept
    raise AssertionError


def test_a_restart_of_the_operator_writes_nothing_new_while_nothing_is_new(
    server: Kubectl, operator: Operator, place: str
) -> None:
    protect(server, place)
    until("looked at", lambda: conditions(server, place).get("StoreReachable") == ("True", "Reachable"))
    before = {each["type"]: each["lastTransitionTime"] for each in policy(server, place)["status"]["conditions"]}
    assert operator.end(signal.SIGKILL) == -signal.SIGKILL
    operator.start()
    until("it looks after the policy again", lambda: 'policy="web"' in operator.ask("/metrics")[1])
    after = {each["type"]: each["lastTransitionTime"] for each in policy(server, place)["status"]["conditions"]}
    assert after == before


def test_sigterm_ends_it_at_once_and_well(operator: Operator) -> None:
    began = time.monotonic()
    assert operator.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5
    last = json.loads((operator.folder / "operator.log").read_text().splitlines()[-1])
    assert last["event"] == "stopped"


def test_without_an_image_for_the_agent_it_says_so_and_ends(server: Kubectl, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(server.kubeconfig)}
    command = [sys.executable, "-m", "resonance.controller.main"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "RESONANCE_AGENT_IMAGE" in done.stderr


def test_without_an_api_server_it_ends_with_an_error(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "RESONANCE_AGENT_IMAGE": "x", "KUBECONFIG": str(tmp_path / "none")}
    environment |= {"METRICS_PORT": str(free_port()), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "resonance.controller.main"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "neither a service account nor $KUBECONFIG" in done.stderr
