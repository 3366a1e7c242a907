"""Setting the stage: a cluster, images, Redis, the operator, the injection, and an empty namespace. Safe to repeat.

The order is that of manifests/injection: the resource and the operator first, the injection once the operator is
available. Where all of it stands already, only the operator's pod is made anew, so that it runs the image just built.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from resonance.model.naming import MemberKeys
from tests.demo.reach import EDGE, NAMESPACE, OPERATOR, REDIS, STATEFUL, SYSTEM, Object, Reach, workload
from tests.demo.terminal import Screen
from tests.lab import Cluster
from tests.lab.layout import REPOSITORY

IMAGES = ("resonance-agent", "resonance-operator", "resonance-redis", "app-python")
INJECTION = "apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/inject.resonance.dev"
SECRET = f"api/v1/namespaces/{REDIS}/secrets/resonance-redis"
PATIENCE = 90.0
KINDS = ("nodes", "fields", "patterns")
_UNLINKED_AT_ONCE = 200


@dataclass(frozen=True)
class Stage:
    """What every step works with."""

    cluster: Cluster
    reach: Reach
    screen: Screen

    def kubectl(self, *words: str, text: str | None = None) -> str:
        return self.cluster.kubectl(*words, text=text)

    def show(self, *words: str) -> str:
        """Run a kubectl command as the user would, and show it with its output."""
        self.screen.command(f"kubectl {' '.join(words)}")
        said = self.kubectl(*words)
        self.screen.output(said)
        return said

    def apply(self, objects: Sequence[Object]) -> None:
        self.kubectl("-n", NAMESPACE, "apply", "-f", "-", text=yaml.safe_dump_all(objects))


def prepare(stage: Stage) -> None:
    """Everything but the sample: at the end, new pods of accepted policies are injected, and `demo` is empty."""
    screen = stage.screen
    clean_namespace(stage)
    known = stage.reach.find(INJECTION) is not None
    for folder in ("redis", "operator"):
        apply_folder(stage, folder)
    if known:
        renew_operator(stage)
    screen.wait("the quickstart Redis to be ready", lambda: ready_pods(stage, "app=redis", REDIS), PATIENCE)
    screen.wait("its Secret", lambda: stage.reach.find(SECRET), PATIENCE)
    screen.wait("the operator to be ready", lambda: ready_pods(stage, f"app={OPERATOR}", SYSTEM), PATIENCE)
    if not known:
        screen.wait("the operator to be available (the API server knows the resource)", lambda: available(stage), 180)
    screen.command("kubectl apply -k manifests/injection")
    stage.kubectl("apply", "-k", str(REPOSITORY / "manifests" / "injection"))
    forget(stage)


def apply_folder(stage: Stage, folder: str) -> None:
    """Apply one of the overlays that name the images built here."""
    stage.screen.command(f"kubectl apply -k manifests/lab/{folder}")
    stage.kubectl("apply", "-k", str(REPOSITORY / "manifests" / "lab" / folder))


def clean_namespace(stage: Stage) -> None:
    """Remove what an earlier demo left."""
    if stage.reach.find(f"api/v1/namespaces/{NAMESPACE}") is not None:
        stage.screen.command(f"kubectl delete namespace {NAMESPACE}")
        stage.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        path = f"api/v1/namespaces/{NAMESPACE}"
        stage.screen.wait("the last demo's namespace to end", lambda: stage.reach.find(path) is None, PATIENCE)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    stage.kubectl("apply", "-f", "-", text=yaml.safe_dump(namespace))


def renew_operator(stage: Stage) -> None:
    """Delete the operator's pod and wait until it is gone; its successor runs the image as it is now."""
    stage.kubectl("-n", SYSTEM, "scale", f"deployment/{OPERATOR}", "--replicas=1")
    old = {pod["metadata"]["uid"] for pod in stage.reach.pods(f"app={OPERATOR}", SYSTEM)}
    stage.kubectl("-n", SYSTEM, "delete", "pods", "-l", f"app={OPERATOR}", "--wait=false")

    def gone() -> bool:
        return old.isdisjoint(pod["metadata"]["uid"] for pod in stage.reach.pods(f"app={OPERATOR}", SYSTEM))

    stage.screen.wait("the operator's old pod to end", gone, PATIENCE)


def forget(stage: Stage) -> None:
    """Remove from Redis what an earlier demo kept there: this one tells the story from its beginning."""
    keys = [key for name in (STATEFUL, EDGE) for key in keys_of(stage.reach, name)]
    for start in range(0, len(keys), _UNLINKED_AT_ONCE):
        stage.reach.redis("UNLINK", *keys[start : start + _UNLINKED_AT_ONCE])


def keys_of(reach: Reach, name: str) -> Sequence[str]:
    """Every key of a workload, found from its records; the agents' user may not list keys."""
    root = workload(name)
    members = [root.member(member) for member in reach.redis("HGETALL", root.slots)]
    return [root.slots, root.policy, root.waiting, *(key for keys in members for key in member_keys_of(reach, keys))]


def member_keys_of(reach: Reach, keys: MemberKeys) -> Sequence[str]:
    manifests: Sequence[Any] = reach.manifests(keys)
    chains = [seq for manifest in manifests for seq in manifest["chain"]]
    return [
        *(str(getattr(keys, name)) for name, each in vars(MemberKeys).items() if isinstance(each, property)),
        *(keys.live(kind) for kind in KINDS),
        *{blob for seq in chains for blob in (keys.base(seq), keys.delta(seq))},
        *{keys.tip(manifest["writer"]) for manifest in manifests},
    ]  # fmt: skip


def copy_secret(stage: Stage) -> None:
    """Give the demo's namespace the Secret that the quickstart Redis made."""
    secret = stage.reach.find(SECRET) or {}
    copy = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "resonance-redis"}, "data": secret["data"]}
    stage.apply([copy])


def sample(stage: Stage) -> Sequence[Object]:
    """The objects of the sample: the workloads and the policy."""
    text = stage.kubectl("kustomize", str(REPOSITORY / "manifests" / "lab" / "sample"))
    return list(yaml.safe_load_all(text))


def ready_pods(stage: Stage, selector: str, namespace: str = NAMESPACE) -> Sequence[Object] | None:
    """The pods with these labels, if there are any, all are ready and none is on its way out."""
    pods = stage.reach.pods(selector, namespace)
    return pods if pods and all(map(is_ready, pods)) else None


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def available(stage: Stage) -> bool:
    """True once the operator has been ready for as long as its Deployment asks for."""
    said = stage.kubectl("-n", SYSTEM, "get", f"deployment/{OPERATOR}", "-o", "json")
    return int(json.loads(said)["status"].get("availableReplicas", 0)) > 0


def wait_until_ready(stage: Stage) -> str:
    """The policy's READY; waits until it is True."""

    def true() -> bool:
        return ready_of(stage.reach.policy()) == "True"

    stage.screen.wait("the policy to be READY", true, PATIENCE)
    return ready_of(stage.reach.policy())


def ready_of(policy: Object) -> str:
    conditions = policy.get("status", {}).get("conditions", ())
    return next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "Unknown")


def members_shown(stage: Stage) -> str:
    """The column MEMBERS of the policy."""
    return str(stage.reach.policy().get("status", {}).get("summary", {}).get("members", ""))
