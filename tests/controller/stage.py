"""A stage for one namespace: the world, an API server that is a dictionary, a Redis in memory, clocks moved by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from resonance.controller.adoption import Means
from resonance.controller.api import ApiFailed
from resonance.controller.metrics import Metrics
from resonance.controller.policy import PolicyLoop, Tools
from resonance.controller.stores import Stores
from resonance.controller.world import World
from resonance.engine.session import Now
from resonance.model.claim import Claimant, Identity, SlotRecord
from resonance.model.commit import Proof
from resonance.model.naming import WorkloadKeys, workload_keys
from resonance.model.pod import Pod, parse_pod
from resonance.model.report import Report
from resonance.model.resource import Name, Policy
from resonance.source import Export
from resonance.store.keyspace import Guard, Write
from resonance.store.workload import Claim, PolicyRecord, claim, read_workload, write_policy
from resonance.testing import MemoryKeyspace
from tests.controller.builders import AGENT, NOW, Object, pod_object, policy_object

NAMESPACE = "demo"
SECRET = {"url": "rediss://redis.prod.svc:6380", "password": "p", "ca.crt": "-----BEGIN CERTIFICATE-----"}
WEB = Name(NAMESPACE, "web")


class RecordingKeyspace(MemoryKeyspace):
    """Remembers in which order keys were written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def apply(self, guards: Any, writes: Any) -> int | None:
        """As ever."""
        typed_guards: list[Guard] = list(guards)
        typed_writes: list[Write] = list(writes)
        done = super().apply(typed_guards, typed_writes)
        if done is not None:
            self.written += [str(write[1]) for write in typed_writes]
        return done


class DictCluster:
    """The API server as the loop needs it."""

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}
        self.silent_nodes: set[str] = set()
        self.secrets: dict[str, dict[str, str]] = {"resonance-redis": dict(SECRET)}
        self.replica_sets: dict[str, Object] = {}
        self.statuses: list[Mapping[str, Any]] = []
        self.events: list[Mapping[str, Any]] = []
        self.looked_up: list[str] = []
        self.away = False

    async def pod(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """By name."""
        self.looked_up.append(name)
        if self.away:
            raise ApiFailed(0, "no answer")
        return self.pods.get(name)

    async def node_answers(self, name: str) -> bool:
        """Unless it is silent."""
        return name not in self.silent_nodes

    async def replica_set(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """By name."""
        return self.replica_sets.get(name)

    async def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """By name."""
        return self.secrets.get(name)

    async def apply_status(self, name: Name, uid: str, status: Mapping[str, Any]) -> bool:
        """Kept in order."""
        if self.away:
            raise ApiFailed(0, "no answer")
        self.statuses.append(json.loads(json.dumps(status)))
        return True

    async def post_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Kept in order."""
        self.events.append(body)


class FixedSource:
    """An app that exports one document; ``after`` runs after each export, before it is returned."""

    def __init__(self, document: bytes = b'{"nodes":{"a":{"v":1}}}') -> None:
        self.document = document
        self.reads = 0
        self.after: Callable[[], None] = lambda: None

    def read(self, etag: str | None) -> Export:
        """One export."""
        self.reads += 1
        self.after()
        return Export(self.document, Proof("inc-app", None), None)

    def close(self) -> None:
        """Nothing to close."""


class Stage:
    """Everything that one policy loop works with."""

    def __init__(self) -> None:
        self.turns = 0
        self.world = World()
        self.cluster = DictCluster()
        self.keyspace = RecordingKeyspace()
        self.source = FixedSource()
        self.now: datetime = NOW
        self.seconds = 0.0
        self.captured: list[Report] = []
        self.threads = ThreadPoolExecutor(2)
        self.tools = Tools(
            self.world,
            self.cluster,
            Stores(self.cluster, lambda _: self.keyspace, lambda: self.seconds),
            Metrics(CollectorRegistry()),
            AGENT,
            Means(self.threads, self._clock, lambda *_: self.source, self._ask, self._done),
            lambda: self.now,
            lambda: self.seconds,
        )

    def _clock(self) -> Now:
        milliseconds = int(self.seconds * 1000)
        return Now(milliseconds, milliseconds)

    def _ask(self, namespace: str, name: str) -> Pod | None:
        raw = self.cluster.pods.get(name)
        return parse_pod(raw) if raw is not None else None

    def _done(self, policy: Policy, report: Report) -> None:
        self.captured.append(report)

    def later(self, seconds: float) -> None:
        """Move every clock, Redis's too."""
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)
        self.keyspace.at_ms += int(seconds * 1000)

    # ------------------------------------------------------------------------------------------------- what is there

    def policy(self, name: str = "web", **given: Any) -> PolicyLoop:
        """A policy that the watch has told of, and its loop."""
        raw = policy_object(name, **given)
        self.world.put_policy(raw)
        return PolicyLoop(Name(NAMESPACE, name), raw["metadata"]["uid"], self.tools)

    def pod(self, name: str = "web-0", **given: Any) -> Object:
        """A pod that exists and that the watch has told of."""
        raw = pod_object(name, **given)
        self.cluster.pods[name] = raw
        self.world.put_pod(raw)
        return raw

    def deployment(self, replicas: int = 1, name: str = "web", **spec: Any) -> None:
        """A Deployment that the watch has told of."""
        template = {"metadata": {"labels": {"app": "web"}}}
        given = {"replicas": replicas, "template": template, **spec}
        self.world.put_workload("Deployment", {"metadata": {"namespace": NAMESPACE, "name": name}, "spec": given})

    def replica(self, name: str, template: str = "h1", **given: Any) -> Object:
        """A pod of that Deployment."""
        labels = {"app": "web", "pod-template-hash": template}
        return self.pod(name, owner=("ReplicaSet", f"web-{template}"), labels=labels, **{"injected": True, **given})

    def keys(self, workload: str = "StatefulSet.web", policy: str = "web") -> WorkloadKeys:
        """The workload's keys."""
        return workload_keys("resonance", NAMESPACE, policy, workload)

    def claims(self, raw: Object, workload: str = "StatefulSet.web", *, wanted: int | None = None) -> Claim:
        """The pod's agent claims, as its init hook does."""
        parsed = parse_pod(raw)
        identity = parsed.identity(None) or Identity.POD_NAME
        if wanted is not None and self.record(workload) is None:
            write_policy(
                self.keyspace, self.keys(workload), PolicyRecord("cluster-1", "uid-web", 1, 10_000, wanted=wanted)
            )
        who = Claimant(parsed.uid, parsed.name, parsed.template, identity, parsed.fixed_member(identity))
        taken = claim(self.keyspace, self.keys(workload), who)
        assert isinstance(taken, Claim), taken
        return taken

    def reports(self, member: str, report: Report, workload: str = "StatefulSet.web") -> None:
        """The member's agent reports."""
        flat = [each for pair in report.to_fields().items() for each in pair]
        key = self.keys(workload).member(member).report
        self.keyspace.apply([], [("HSET", key, *flat), ("HSETNOW", key, "at_ms")])

    # -------------------------------------------------------------------------------------------- what has become of it

    def slots(self, workload: str = "StatefulSet.web") -> Mapping[str, SlotRecord]:
        """The records of the workload."""
        return read_workload(self.keyspace, self.keys(workload)).slots

    def record(self, workload: str = "StatefulSet.web", policy: str = "web") -> PolicyRecord | None:
        """What the agents are told."""
        return read_workload(self.keyspace, self.keys(workload, policy)).policy

    def condition(self, kind: str) -> tuple[str, str]:
        """(status, reason) of the newest status that was written."""
        found = {each["type"]: each for each in self.cluster.statuses[-1]["conditions"]}
        return found[kind]["status"], found[kind]["reason"]

    def message(self, kind: str) -> str:
        """Its message."""
        return str({each["type"]: each for each in self.cluster.statuses[-1]["conditions"]}[kind]["message"])


async def breath(stage: Stage) -> None:
    """The pause between two turns of a loop, which counts them."""
    stage.turns += 1
    await asyncio.sleep(0.02)


async def until(said: str, true: Callable[[], object]) -> None:
    """Wait for a condition; running out of ten seconds is a failure that names it."""
    deadline = asyncio.get_running_loop().time() + 10
    while not true():
        assert asyncio.get_running_loop().time() < deadline, f"never came true: {said}"
        await asyncio.sleep(0.01)


def same_pod(raw: Object, **meta: Any) -> Object:
    """The pod with other metadata, for example another uid."""
    return {**raw, "metadata": {**raw["metadata"], **meta}}
