"""What we need to know of a pod, and under which workload and member its state is kept.

The argument: injection (manifests/injection) computes the workload and the identity in the API server, the operator
computes them here for pods that were there before. Both must say the same, or an adopted pod's state would be under
another name than its injected successor looks for; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from resonance.model.claim import Identity

AGENT = "resonance-agent"
STORE_VOLUME = "resonance-store"
POLICY_MARK = "resonance.dev/policy"
WORKLOAD_MARK = "resonance.dev/workload"
IDENTITY_MARK = "resonance.dev/identity"
_OVER = frozenset({"Succeeded", "Failed"})
IDENTITY_OF_KIND = {
    "StatefulSet": Identity.POD_NAME,
    "Pod": Identity.POD_NAME,
    "Deployment": Identity.SLOT,
    "ReplicaSet": Identity.SLOT,
    "DaemonSet": Identity.NODE,
}


class Injection(StrEnum):
    """Whether a pod carries our agent, and why it can't."""

    INJECTED = "Injected"
    OLDER_THAN_POLICY = "OlderThanPolicy"
    HOST_NETWORK = "HostNetwork"
    MIRROR = "Mirror"


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the app. ``running_id`` is the runtime's id of the running process, empty while there is none."""

    name: str
    running_id: str = ""
    own_prestop: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """What an injected pod carries of its policy, enough to find its keys when the policy is gone."""

    policy_uid: str
    prefix: str
    secret: str


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. ``kind`` and ``workload_name`` name what its state is kept under; ``mark`` is the policy that injected
    it.
    """

    namespace: str
    name: str
    uid: str
    created: datetime
    kind: str
    workload_name: str
    template: str = ""
    labels: Mapping[str, str] | None = None
    node: str = ""
    ip: str = ""
    phase: str = "Pending"
    ready: bool = False
    terminating: bool = False
    injection: Injection = Injection.OLDER_THAN_POLICY
    mark: str = ""
    origin: Origin | None = None
    containers: tuple[Container, ...] = ()
    default_container: str = ""

    @property
    def workload(self) -> str:
        """``<kind>.<name>``, as in Redis."""
        return f"{self.kind}.{self.workload_name}"

    @property
    def over(self) -> bool:
        """True when no process of it runs any more or ever will."""
        return self.phase in _OVER

    @property
    def live(self) -> bool:
        """True for a pod that is meant to run: it may claim, and its state is to be kept."""
        return not self.over and not self.terminating

    def app(self, wanted: str | None) -> Container | None:
        """The app's container: the one that the policy names, else the annotated one, else the first."""
        for name in (wanted, None if wanted else self.default_container):
            for each in self.containers:
                if each.name == name:
                    return each
        return None if wanted or not self.containers else self.containers[0]

    def started(self, wanted: str | None) -> bool:
        """True while the app's process runs."""
        app = self.app(wanted)
        return self.phase == "Running" and app is not None and app.running_id != ""

    def identity(self, chosen: Identity | None) -> Identity | None:
        """How the pod is tied to a member; ``chosen`` None is Auto. None: Auto leaves pods of this kind alone."""
        return chosen or IDENTITY_OF_KIND.get(self.kind)

    def fixed_member(self, identity: Identity) -> str | None:
        """The member where the identity alone names it, None for slots."""
        return {Identity.POD_NAME: self.name, Identity.NODE: self.node or None, Identity.SLOT: None}[identity]


def parse_pod(raw: Mapping[str, Any]) -> Pod:
    """A pod from the API's JSON. Total: whatever the API server accepts is understood."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    kind, owner, template = _owner(meta, labels)
    running = {each["name"]: _running_id(each) for each in status.get("containerStatuses") or ()}
    return Pod(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta["uid"],
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        kind=kind,
        workload_name=owner,
        template=template,
        labels=labels,
        node=spec.get("nodeName") or "",
        ip=status.get("podIP") or "",
        phase=status.get("phase") or "Pending",
        ready=any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()),
        terminating="deletionTimestamp" in meta,
        injection=_injection(spec, annotations),
        mark=annotations.get(POLICY_MARK, ""),
        origin=_origin(spec),
        containers=tuple(
            Container(each["name"], running.get(each["name"], ""), _own_prestop(each))
            for each in spec.get("containers") or ()
        ),
        default_container=annotations.get("kubectl.kubernetes.io/default-container", ""),
    )


def _owner(meta: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, str, str]:
    """(kind, name, template hash) exactly as the injection computes them."""
    owners: Sequence[Mapping[str, Any]] = [each for each in meta.get("ownerReferences") or () if each.get("controller")]
    pod_hash = labels.get("pod-template-hash", "")
    template = pod_hash or labels.get("controller-revision-hash", "")
    if not owners:
        return "Pod", meta["name"], template
    kind, name = owners[0]["kind"], owners[0]["name"]
    if kind == "ReplicaSet" and pod_hash and name.endswith(f"-{pod_hash}"):
        return "Deployment", name[: -len(pod_hash) - 1], template
    return kind, name, template


def _injection(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> Injection:
    if any(each.get("name") == AGENT for each in spec.get("initContainers") or ()):
        return Injection.INJECTED
    if "kubernetes.io/config.mirror" in annotations:
        return Injection.MIRROR
    return Injection.HOST_NETWORK if spec.get("hostNetwork") else Injection.OLDER_THAN_POLICY


def _origin(spec: Mapping[str, Any]) -> Origin | None:
    agent: Mapping[str, Any] = next(
        (each for each in spec.get("initContainers") or () if each.get("name") == AGENT), {}
    )
    env = {each["name"]: each.get("value", "") for each in agent.get("env") or ()}
    volumes = {each["name"]: each for each in spec.get("volumes") or ()}
    secret = (volumes.get(STORE_VOLUME, {}).get("secret") or {}).get("secretName", "")
    uid, prefix = env.get("RESONANCE_POLICY_UID", ""), env.get("RESONANCE_PREFIX", "")
    return Origin(uid, prefix, secret) if uid and prefix and secret else None


def _running_id(status: Mapping[str, Any]) -> str:
    return (status.get("containerID") or "") if "running" in (status.get("state") or {}) else ""


def _own_prestop(container: Mapping[str, Any]) -> bool:
    hook = (container.get("lifecycle") or {}).get("preStop")
    if hook is None:
        return False
    got = hook.get("httpGet") or {}
    return not (str(got.get("port")) == "9477" and got.get("path") == "/flush")
