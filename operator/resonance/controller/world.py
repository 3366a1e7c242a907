"""What the operator knows of the cluster: policies, pods and workloads, fed by kopf's watches, read by the duties.

A plain dictionary with one rule: a write that changes nothing wakes nobody. kopf tells of no deletion that happened
while a watch was being renewed, so what is here may be a ghost; whoever acts on it asks the API server first (duty.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resonance.model.pod import Pod, parse_pod
from resonance.model.resource import Name, Policy, Rejected, name_of, parse_policy

WORKLOAD_KINDS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet. ``surges``: a roll-out starts a new pod before an old one ends."""

    kind: str
    name: str
    replicas: int | None
    surges: bool
    labels: Mapping[str, str]

    @property
    def key(self) -> str:
        """``<kind>.<name>``, as in Redis."""
        return f"{self.kind}.{self.name}"


def parse_workload(kind: str, raw: Mapping[str, Any]) -> Workload:
    """A workload from the API's JSON."""
    spec = raw.get("spec") or {}
    template = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    replicas = spec.get("replicas", 1)
    if kind == "DaemonSet":
        replicas = (raw.get("status") or {}).get("desiredNumberScheduled")
    return Workload(kind, raw["metadata"]["name"], replicas, _surges(kind, spec), template)


def _surges(kind: str, spec: Mapping[str, Any]) -> bool:
    strategy = spec.get("strategy" if kind == "Deployment" else "updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate" or kind == "StatefulSet":
        return False
    default = "25%" if kind == "Deployment" else 0
    return str((strategy.get("rollingUpdate") or {}).get("maxSurge", default)) not in ("0", "0%")


class World:
    """All of it, by namespace."""

    def __init__(self) -> None:
        self._policies: dict[Name, Policy | Rejected] = {}
        self._statuses: dict[Name, Mapping[str, Any]] = {}
        self._pods: dict[str, dict[str, Pod]] = {}
        self._workloads: dict[str, dict[str, Workload]] = {}
        self._wake: Callable[[str], None] = lambda _: None

    def when_changed(self, wake: Callable[[str], None]) -> None:
        """``wake(namespace)`` is called after every change there."""
        self._wake = wake

    # ---------------------------------------------------------------------------------------------------------- feeding

    def put_policy(self, raw: Mapping[str, Any]) -> None:
        """A policy was seen."""
        name, policy = name_of(raw), parse_policy(raw)
        self._statuses[name] = raw.get("status") or {}
        if self._policies.get(name) != policy:
            self._policies[name] = policy
            self._wake(name.namespace)

    def drop_policy(self, name: Name, uid: str) -> None:
        """The policy of this uid is gone."""
        known = self._policies.get(name)
        if known is not None and known.uid == uid:
            del self._policies[name]
            self._statuses.pop(name, None)
            self._wake(name.namespace)

    def put_pod(self, raw: Mapping[str, Any]) -> Pod:
        """A pod was seen."""
        pod = parse_pod(raw)
        pods = self._pods.setdefault(pod.namespace, {})
        before = pods.get(pod.name)
        if before != pod:
            pods[pod.name] = pod
            self._wake_for(pod, *filter(None, [before]))
        return pod

    def drop_pod(self, namespace: str, name: str, uid: str) -> None:
        """The pod of this uid is gone; another of the same name stays."""
        pods = self._pods.get(namespace, {})
        if name in pods and pods[name].uid == uid:
            self._wake_for(pods.pop(name))

    def put_workload(self, kind: str, raw: Mapping[str, Any]) -> None:
        """A workload was seen."""
        workload, namespace = parse_workload(kind, raw), raw["metadata"]["namespace"]
        known = self._workloads.setdefault(namespace, {})
        if known.get(workload.key) != workload:
            known[workload.key] = workload
            self._wake(namespace)

    def drop_workload(self, kind: str, namespace: str, name: str) -> None:
        """The workload is gone."""
        if self._workloads.get(namespace, {}).pop(f"{kind}.{name}", None) is not None:
            self._wake(namespace)

    def _wake_for(self, *pods: Pod) -> None:
        """Only if a policy means the pod, or did: a busy namespace has others."""
        for pod in pods:
            policies = [each for each in self.policies(pod.namespace) if isinstance(each, Policy)]
            if pod.mark or any(each.selects(pod.namespace, pod.labels) for each in policies):
                self._wake(pod.namespace)
                return

    # ---------------------------------------------------------------------------------------------------------- reading

    def policies(self, namespace: str | None = None) -> list[Policy | Rejected]:
        """Every policy, of one namespace or of all."""
        return [each for name, each in self._policies.items() if namespace in (None, name.namespace)]

    def namespaces(self) -> set[str]:
        """Every namespace with a pod or a policy."""
        return {name.namespace for name in self._policies} | set(self._pods)

    def policy(self, name: Name) -> Policy | Rejected | None:
        """One policy."""
        return self._policies.get(name)

    def status(self, name: Name) -> Mapping[str, Any]:
        """The policy's status as it was last seen."""
        return self._statuses.get(name, {})

    def standing(self, namespace: str) -> frozenset[str]:
        """The uids of the policies whose status says that they are accepted as they are now."""
        return frozenset(
            each.uid
            for each in self.policies(namespace)
            if self.status(each.name).get("observedGeneration") == each.generation
            and any(
                said["type"] == "Accepted" and said["status"] == "True"
                for said in self.status(each.name).get("conditions") or ()
            )
        )

    def templates(self, namespace: str) -> Mapping[str, Mapping[str, str]]:
        """The labels that the pods of each workload get."""
        return {each.key: each.labels for each in self.workloads(namespace)}

    def pods(self, namespace: str) -> list[Pod]:
        """Every pod of a namespace."""
        return list(self._pods.get(namespace, {}).values())

    def pod(self, namespace: str, name: str) -> Pod | None:
        """One pod."""
        return self._pods.get(namespace, {}).get(name)

    def workloads(self, namespace: str) -> Iterable[Workload]:
        """Every workload of a namespace."""
        return list(self._workloads.get(namespace, {}).values())

    def workload(self, namespace: str, key: str) -> Workload | None:
        """One workload, by ``<kind>.<name>``."""
        return self._workloads.get(namespace, {}).get(key)
