"""Workloads that run the network app, with complete valid defaults; a test says only what it is about.

The network advances only when a test ticks it, unless the flags say otherwise: what is exported then stays the same
until the test wants it to change.
"""

from enum import StrEnum
from typing import Any

Object = dict[str, Any]
IMAGE = "localhost/app-python:lab"
CONTAINER = "network"


class Replace(StrEnum):
    """How a Deployment replaces its pods."""

    RECREATE = "Recreate"
    SURGE = "RollingUpdate"


def labels(name: str, app: str) -> dict[str, str]:
    """What a workload's pods carry: `app` for the policy, `part` for their workload."""
    return {"app": app, "part": name}


def pod_spec(*flags: str, grace: int = 10, memory: str = "96Mi", nodes: int = 30) -> Object:
    """A pod that passes Pod Security `restricted`."""
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": CONTAINER,
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "args": [f"--nodes={nodes}", "--tick-ms=0", *flags],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": memory}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }


def stateful_set(name: str = "web", *flags: str, replicas: int = 1, app: str = "web", **pod: Any) -> Object:
    """A StatefulSet: its members are its pods' names."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"part": name}},
            "template": {"metadata": {"labels": labels(name, app)}, "spec": pod_spec(*flags, **pod)},
        },
    }


def deployment(
    name: str = "edge",
    *flags: str,
    replicas: int = 1,
    app: str = "web",
    replace: Replace = Replace.RECREATE,
    **pod: Any,
) -> Object:
    """A Deployment: its members are numbered slots."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": str(replace)},
            "selector": {"matchLabels": {"part": name}},
            "template": {"metadata": {"labels": labels(name, app)}, "spec": pod_spec(*flags, **pod)},
        },
    }


def bare_pod(name: str, *flags: str, app: str = "web", owner: Object | None = None, **pod: Any) -> Object:
    """A pod without a workload, or one that some other controller owns."""
    metadata: Object = {"name": name, "labels": labels(name, app)}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(*flags, **pod)}
