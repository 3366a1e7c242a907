"""Pods of other people can be created at every instant while our parts come and go.

The danger (all measured): the API server refuses every pod in the scope of an admission policy whose parameter kind it
does not know, and it learns of a new kind only within 30 s. So the resource comes first and is *warmed*, the injection
comes 35 s later (`minReadySeconds` of the operator makes `kubectl rollout status` wait for that), and on the way out
the injection goes first, which the API server itself enforces.
"""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tests.cluster.builders import Object, pod
from tests.cluster.control_plane import REPOSITORY, Kubectl, Refused, api_server, wait_for

OPERATOR = str(REPOSITORY / "manifests/operator")
INJECTION = str(REPOSITORY / "manifests/injection")
CRD = "resonancesnapshots.resonance.dev"


class Creations:
    """Somebody who creates pods without end, in a namespace that has nothing to do with us."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        pki = kubeconfig.parent / "pki"
        address: str = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        trust.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._server = http.client.HTTPSConnection(address.removeprefix("https://"), context=trust)
        self._path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        self._body = json.dumps(pod(name=None, labels={"app": "theirs"}))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.created = 0
        self.refused: list[str] = []

    def _work(self) -> None:
        while not self._stop.wait(0.005):
            self._server.request("POST", self._path, self._body, {"Content-Type": "application/json"})
            answer = self._server.getresponse()
            said = answer.read().decode()
            self.created += answer.status == http.client.CREATED
            if answer.status != http.client.CREATED:
                self.refused.append(said)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self._server.close()

    def for_seconds(self, seconds: float) -> None:
        """Let a time pass in which pods are created."""
        until = time.monotonic() + seconds
        for _ in wait_for("the time is over", seconds + 30):
            if time.monotonic() >= until:
                return


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Kubectl]:
    """An API server without us, but with somebody else's policy that has a parameter: the worst case, for it keeps the
    list of known kinds in use and so old."""
    with api_server(tmp_path, port=16453) as kubectl:
        for theirs in somebodys_policy():
            kubectl.apply(theirs, "default")
        yield kubectl


def somebodys_policy() -> list[Object]:
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "somebody.example.com"}}
    secrets = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [secrets]},
        "validations": [{"expression": "true"}],
    }
    binding = {
        "policyName": "somebody.example.com",
        "validationActions": ["Deny"],
        "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"},
    }
    return [
        {**head, "kind": "ValidatingAdmissionPolicy", "spec": spec},
        {**head, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    ]


def minimum_ready_seconds() -> int:
    """How long `kubectl rollout status` of the operator takes at least."""
    deployment: Object = yaml.safe_load((REPOSITORY / "manifests/operator/deployment.yaml").read_text())
    return int(deployment["spec"]["minReadySeconds"])


def test_no_pod_is_refused_while_we_are_installed_and_removed(untouched: Kubectl) -> None:
    kubectl = untouched
    creations = Creations(kubectl.kubeconfig, kubectl.namespace("theirs"))
    with creations.going_on():
        kubectl("apply", "-k", OPERATOR)
        creations.for_seconds(minimum_ready_seconds())
        kubectl("apply", "-k", INJECTION)
        creations.for_seconds(3)

        with pytest.raises(Refused, match="Remove the injection first: kubectl delete -k manifests/injection"):
            kubectl("delete", "crd", CRD)
        creations.for_seconds(1)

        kubectl("delete", "-k", INJECTION)
        kubectl("delete", "-k", OPERATOR, "--wait=false")
        creations.for_seconds(3)
    assert creations.refused == []
    assert creations.created > 500
    assert kubectl.start("get", "crd", CRD).returncode != 0


def test_the_operator_may_only_read_what_is_not_its_own() -> None:
    text = (REPOSITORY / "manifests/operator/rbac.yaml").read_text()
    roles = [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] == "resonance-operator"]
    rules = [rule for role in roles for rule in role.get("rules", [])]
    assert rules
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if not {"resonancesnapshots", "resonancesnapshots/status", "events"} & set(rule["resources"]):
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["get"]


SHIPPED = {
    "operator": "manifests/operator/deployment.yaml",
    "redis": "manifests/redis/redis.yaml",
    "sample StatefulSet": "manifests/sample/statefulset.yaml",
    "sample Deployment": "manifests/sample/deployment.yaml",
}


@pytest.mark.parametrize("file", SHIPPED.values(), ids=SHIPPED.keys())
def test_our_own_pods_pass_pod_security_restricted(server: Kubectl, file: str) -> None:
    namespace = server.namespace("our-pods", {"pod-security.kubernetes.io/enforce": "restricted"})
    shipped = yaml.safe_load_all((REPOSITORY / file).read_text())
    (workload,) = [each for each in shipped if each["kind"] in {"Deployment", "StatefulSet"}]
    template = workload["spec"]["template"]
    spec = template["spec"] | {"serviceAccountName": "default"}
    claimed = [
        {"name": each["metadata"]["name"], "emptyDir": {}} for each in workload["spec"].get("volumeClaimTemplates", [])
    ]
    spec["volumes"] = spec.get("volumes", []) + claimed
    metadata = {"name": "tried", "labels": template["metadata"]["labels"]}
    server.dry_run({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace)
