"""Policies and pods with complete valid defaults; a test says only what it is about."""

from copy import deepcopy
from typing import Any

Object = dict[str, Any]
ACCEPTED = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
AGENT = {"image": "agent:1", "imagePullPolicy": "Never", "memory": "64Mi", "stateSize": "24Mi", "cluster": "cluster-1"}


def merged(base: Object, changes: Object) -> Object:
    """Lay `changes` over `base`, maps by key, anything else replaced; None takes a field out."""
    result = deepcopy(base)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = deepcopy(value)
    return result


def policy(name: str = "web", **spec: Any) -> Object:
    """The policy of ten lines, with `spec` laid over it."""
    base = {
        "selector": {"matchLabels": {"app": "web"}},
        "source": {"http": {"port": 8080}},
        "store": {"secretRef": {"name": "resonance-redis"}},
    }
    return {
        "apiVersion": "resonance.dev/v1alpha1",
        "kind": "ResonanceSnapshot",
        "metadata": {"name": name},
        "spec": merged(base, spec),
    }


def owner(kind: str, name: str) -> Object:
    """The controller of a pod."""
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "name": name, "uid": "owner-uid", "controller": True}


def pod(
    *owners: Object,
    name: str | None = "web-0",
    labels: Object | None = None,
    annotations: Object | None = None,
    **spec: Any,
) -> Object:
    """A pod with one plain container, `web`, that asks for nothing."""
    metadata: Object = {"labels": {"app": "web", **(labels or {})}, "annotations": annotations or {}}
    metadata |= {"name": name} if name else {"generateName": "web-"}
    if owners:
        metadata["ownerReferences"] = list(owners)
    containers = {"containers": [container()]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": merged(containers, spec)}


def container(name: str = "web", **fields: Any) -> Object:
    """A container."""
    return {"name": name, "image": "app:1", **fields}


def restricted(**fields: Any) -> Object:
    """A container that Pod Security `restricted` accepts."""
    confined = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return container(securityContext=confined, **fields)
