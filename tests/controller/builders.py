"""Complete, valid objects and facts with a default for every field, for tests that are about one of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from resonance.model.acceptance import Said
from resonance.model.facts import AgentSettings, Facts, PodFacts, Proved, StoreFacts, Verified
from resonance.model.manifest import Head, Manifest
from resonance.model.pod import Container, Injection, Pod
from resonance.model.report import Outcome, Report
from resonance.model.resource import Policy, parse_policy

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
AGENT = AgentSettings("example/agent:1", "IfNotPresent", "cluster-1")
Object = dict[str, Any]


def policy_object(
    name: str = "web", *, spec: Mapping[str, Any] | None = None, created: str = "2026-05-04T11:00:00Z", **meta: Any
) -> Object:
    """A ``ResonanceSnapshot``; ``spec`` is merged over the ten lines that a user writes."""
    given: Object = {
        "selector": {"matchLabels": {"app": "web"}},
        "source": {"http": {"port": 8080}},
        "store": {"secretRef": {"name": "resonance-redis"}},
    }
    return {
        "apiVersion": "resonance.dev/v1alpha1",
        "kind": "ResonanceSnapshot",
        "metadata": {
            "namespace": "demo",
            "name": name,
            "uid": f"uid-{name}",
            "generation": 1,
            "creationTimestamp": created,
            **meta,
        },
        "spec": merge(given, spec or {}),
    }


def merge(into: Mapping[str, Any], more: Mapping[str, Any]) -> Object:
    """``more`` over ``into``; a value of None removes the field."""
    out = copy.deepcopy(dict(into))
    for key, value in more.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def policy(name: str = "web", **fields: Any) -> Policy:
    """A parsed policy with some fields replaced."""
    parsed = parse_policy(policy_object(name))
    assert isinstance(parsed, Policy)
    return replace(parsed, **fields)


def pod_object(
    name: str = "web-0",
    *,
    owner: tuple[str, str] | None = ("StatefulSet", "web"),
    labels: Mapping[str, str] | None = None,
    injected: bool = False,
    running: bool = True,
    uid: str = "",
    ip: str = "10.0.0.7",
    spec: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    created: str = "2026-05-04T11:30:00Z",
    **meta: Any,
) -> Object:
    """A pod as the API server gives it, running and ready."""
    app: Object = {"name": "app", "image": "example/app:1"}
    init = [{"name": "resonance-restore"}, {"name": "resonance-agent"}] if injected else []
    state = {"running": {"startedAt": created}} if running else {"waiting": {"reason": "ContainerCreating"}}
    marks = {"resonance.dev/policy": "web"} if injected else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "demo",
            "name": name,
            "uid": uid or f"uid-{name}",
            "creationTimestamp": created,
            "labels": dict(labels or {"app": "web"}),
            "annotations": {**marks, **(annotations or {})},
            "ownerReferences": [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else [],
            **meta,
        },
        "spec": merge({"nodeName": "node1", "containers": [app], "initContainers": init}, spec or {}),
        "status": {
            "phase": "Running" if running else "Pending",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if running else "False"}],
            "containerStatuses": [
                {"name": "app", "state": state, **({"containerID": f"containerd://{name}"} if running else {})}
            ],
        },
    }


def pod(name: str = "web-0", **fields: Any) -> Pod:
    """A parsed, injected pod that has been running for half an hour."""
    base = Pod(
        namespace="demo",
        name=name,
        uid=f"uid-{name}",
        created=NOW - timedelta(minutes=30),
        kind="StatefulSet",
        workload_name="web",
        labels={"app": "web"},
        node="node1",
        ip="10.0.0.7",
        phase="Running",
        ready=True,
        injection=Injection.INJECTED,
        mark="web",
        containers=(Container("app", "containerd://1"),),
    )
    return replace(base, **fields)


def report(**fields: Any) -> Report:
    """A writer's good turn."""
    base = Report(
        Outcome.SAVED, "", "uid-web-0", "web-0", "node1", "agent", "1", 10_000, at_ms=1, taken_ago_ms=0, gap_ms=10_000
    )
    return replace(base, **({"incarnation": "inc-1", "restored_from": "none", "restore": "NeverExisted"} | fields))


def head(seq: int = 7, **fields: Any) -> Head:
    """A member's head."""
    manifest = Manifest(
        seq=seq,
        commit=f"commit-{seq}",
        line="line-1",
        parent=None,
        incarnation="inc-1",
        digest="00",
        counts={"nodes": 1},
        state_bytes=1000,
        stored_bytes=100,
        chain=(seq,),
        proof="",
        taken_at_ms=0,
        writer="uid-web-0",
        pod="web-0",
        epoch=1,
    )
    return replace(Head(1, "uid-web-0", manifest), **fields)


def facts_of_pod(name: str = "web-0", **fields: Any) -> PodFacts:
    """A pod whose member was snapshotted four seconds ago and whose head was opened."""
    base = PodFacts(
        pod(name),
        member=name,
        head=head(),
        report=report(uid=f"uid-{name}", pod=name),
        age=timedelta(seconds=4),
        silent=timedelta(seconds=4),
        verified=Verified(Proved.INTACT, "line-1.7"),
    )
    return replace(base, **fields)


SAFE = StoreFacts("redis.prod.svc:6380", None, True, ())


def facts(pods: Sequence[PodFacts] | None = None, **fields: Any) -> Facts:
    """Facts of a policy that is all well."""
    base = Facts(policy(), AGENT, NOW, store=SAFE, pods=tuple(pods if pods is not None else [facts_of_pod()]))
    return replace(base, **fields)


def said(reason: str = "Because", message: str = "something happened; do something.") -> Said:
    """A reason and a message."""
    return Said(reason, message)
