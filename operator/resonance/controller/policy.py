"""One policy's loop: gather, decide, act, and say so. Everything here is ordering; what is decided is decided
elsewhere.

A turn comes every interval (at most :data:`LONGEST_S`) and at once when something of the namespace changed. Each turn
starts from facts, so a turn that fails or is cut off is made good by the next one, and a second operator doing the same
does no harm:

    accept?  →  read Redis  →  confirm who is gone  →  write the records  →  release  →  adopt  →  open heads  →  status
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from resonance.controller.adoption import Adoption, Means
from resonance.controller.api import ApiFailed
from resonance.controller.burial import Grave
from resonance.controller.duty import Holding, decide_record, doubtful, holdings, other_cluster, wanted_of
from resonance.controller.metrics import Metrics
from resonance.controller.observe import WorkloadSeen, join, look, selected
from resonance.controller.stores import Store, Stores, said_of
from resonance.controller.verify import Verifier
from resonance.controller.world import World
from resonance.model.acceptance import Said, decide_acceptance, overlaps
from resonance.model.claim import Identity
from resonance.model.errors import StoreError, StoreRefused
from resonance.model.facts import AgentSettings, Facts, StoreFacts
from resonance.model.naming import WorkloadKeys, workload_keys
from resonance.model.pod import IDENTITY_OF_KIND, Injection, Pod
from resonance.model.resource import Name, Policy, Rejected
from resonance.model.status import PACE, Status, decide_write, status_of, told_by, transitions
from resonance.store.health import judge
from resonance.store.keyspace import Keyspace
from resonance.store.workload import release, stop_waiting, write_policy

LONGEST_S = 10.0
SHORTEST_S = 0.25
"""Between two turns that were asked for by changes, so that a roll-out of many pods is some turns, not one for each."""
_MOMENT_S = 0.05
UNSETTLED_S = 2.0
"""The interval while something is not known yet, so that a first snapshot shows at once; but not for ever."""
UNSETTLED_FOR_S = 60.0
SUSPECT_S = 30.0
"""How often a pod that should report and does not is looked up, lest it is a ghost of a missed deletion."""
log = logging.getLogger(__name__)


class Cluster(Protocol):
    """What a loop asks the API server."""

    async def pod(self, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    async def node_answers(self, name: str) -> bool: ...

    async def replica_set(self, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    async def apply_status(self, name: Name, uid: str, status: Mapping[str, Any]) -> bool: ...

    async def post_event(self, namespace: str, body: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What every loop works with; made once by the composition root."""

    world: World
    cluster: Cluster
    stores: Stores
    metrics: Metrics
    agent: AgentSettings
    adoption: Means
    wall: Callable[[], datetime]
    steady: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last good look at Redis."""

    workloads: Mapping[str, WorkloadSeen]
    at: float


class PolicyLoop:
    """The duties towards one policy (one uid), until it is gone."""

    def __init__(self, name: Name, uid: str, tools: Tools) -> None:
        self.name = name
        self.uid = uid
        self._tools = tools
        self._woken = asyncio.Event()
        self._stirred_at = tools.steady()
        self._adoption = Adoption(tools.adoption)
        self._verifier = Verifier(tools.steady)
        self._seen = _Seen({}, tools.steady())
        self._store = StoreFacts()
        self._evicted: int | None = None
        self._replicas = 0
        self._previous: Mapping[str, Any] | None = dict(tools.world.status(name)) or None
        self._written_at: datetime | None = None
        self._told = told_by(self._previous)
        self._looked_up: dict[str, float] = {}
        self._policy: Policy | None = None
        self._keys: dict[str, WorkloadKeys] = {}
        self._peopled: set[str] = set()

    def wake(self) -> None:
        """Something changed: take a turn soon."""
        self._stirred_at = self._tools.steady()
        self._woken.set()

    async def run(self) -> None:
        """Turns until cancelled. A turn that fails is logged, and the next one starts from facts."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self.turn()
                except ApiFailed as error:
                    log.warning("api_away", extra={"policy": str(self.name), "detail": str(error)})
                except Exception as error:  # the loop of a policy must not end while the policy stands
                    fields = {"policy": str(self.name), "error": type(error).__name__, "detail": str(error)[:500]}
                    log.warning("turn_failed", extra=fields, exc_info=error)
                await asyncio.sleep(SHORTEST_S)
                await _wait(self._woken, self._pause())
        finally:
            await self._adoption.stop()

    def _pause(self) -> float:
        every = self._policy.every.total_seconds() if self._policy is not None else LONGEST_S
        unknown = any(each["status"] == "Unknown" for each in (self._previous or {}).get("conditions", ()))
        lately = self._tools.steady() - self._stirred_at < UNSETTLED_FOR_S
        longest = UNSETTLED_S if unknown and lately else LONGEST_S
        pause = min(every, longest) * random.uniform(0.9, 1.0)
        return min(pause, self._until_next_write() or pause)

    def _until_next_write(self) -> float:
        """Seconds until the pace allows a status again, 0 when it does, so that figures are as fresh as can be."""
        if self._written_at is None:
            return 0.0
        left = (self._written_at + PACE - self._tools.wall()).total_seconds()
        return max(0.0, left + _MOMENT_S) if left > 0 else 0.0

    async def turn(self) -> None:
        """Gather, decide, act, say."""
        world = self._tools.world
        policy = world.policy(self.name)
        if policy is None or policy.uid != self.uid:
            return
        refusal = self._refusal()
        if isinstance(policy, Rejected) or refusal is not None:
            await self._adoption.stop()
            await self._show(Facts(policy, self._tools.agent, self._tools.wall(), refusal))
            return
        self._policy = policy
        if self._previous is None:  # accepting must not wait for a store that does not answer
            await self._show(Facts(policy, self._tools.agent, self._tools.wall(), None, self._warnings(policy)))
        refusal = await self._work(policy)
        await self._show(self._facts(policy, refusal))

    def _refusal(self) -> Said | None:
        world, namespace = self._tools.world, self.name.namespace
        pods, templates, standing = world.pods(namespace), world.templates(namespace), world.standing(namespace)
        return decide_acceptance(world.policies(namespace), pods, templates, standing).get(self.uid)

    # ---------------------------------------------------------------------------------------------------------- working

    async def _work(self, policy: Policy) -> Said | None:
        """Everything in Redis. Returns why the policy is not accepted after all; trouble goes into the facts."""
        store = await self._tools.stores.get(self.name.namespace, policy.secret)
        if isinstance(store, Said):
            self._store = replace(self._store, trouble=store, asked=True)
            return None
        try:
            refusal = await self._work_in(policy, store)
        except StoreError as error:
            self._tools.stores.distrust(self.name.namespace, policy.secret)
            self._store = replace(self._store, address=store.address, trouble=said_of(error), asked=True)
            return None
        return refusal

    async def _work_in(self, policy: Policy, store: Store) -> Said | None:
        keys = self._workload_keys(policy)
        seen = await asyncio.to_thread(look, store, keys)
        self._seen = _Seen(seen, self._tools.steady())
        await self._learn_health(store)
        refusal = other_cluster(self._tools.agent.cluster, seen)
        if refusal is not None:
            await self._adoption.stop()
            return refusal
        gone = await self._confirmed(seen)
        await self._write_records(policy, store, keys, seen)
        await self._release(store, keys, gone)
        await self._adopt(policy, store, keys, seen)
        await asyncio.to_thread(
            self._verifier.open_some, store, keys, self._verifier.due(seen), max_bytes=policy.max_bytes
        )
        return None

    def _workload_keys(self, policy: Policy) -> dict[str, WorkloadKeys]:
        """Every workload that the policy has pods of, will have (agents wait for the record), or has to release."""
        world, namespace = self._tools.world, self.name.namespace
        found = {pod.workload for pod in world.pods(namespace) if policy.selects(namespace, pod.labels)}
        found |= {pod.workload for pod in world.pods(namespace) if pod.mark == self.name.name}
        found |= {each.key for each in world.workloads(namespace) if policy.selects(namespace, each.labels)}
        before, self._peopled = self._peopled, found  # who was there may have claimed since the last look
        found = found | before
        found |= {workload for workload, each in self._seen.workloads.items() if holdings(each) or each.record.waiting}
        self._keys = {
            workload: workload_keys(policy.prefix, namespace, self.name.name, workload) for workload in sorted(found)
        }
        return self._keys

    async def _learn_health(self, store: Store) -> None:
        try:
            info = await asyncio.to_thread(store.info)
        except StoreRefused as error:
            self._store = StoreFacts(store.address, None, True, (Said("InfoRefused", f"{error} Grant +info."),))
            return
        health = judge(info, evicted_before=self._evicted)
        self._evicted, self._replicas = health.evicted, health.replicas
        dangers = tuple(Said(str(each.danger), each.message) for each in health.findings)
        self._store = StoreFacts(store.address, None, True, dangers)

    async def _confirmed(self, seen: Mapping[str, WorkloadSeen]) -> list[tuple[str, Holding]]:
        """Nobody, while the API server is away: a release must not rest on what was known before."""
        try:
            return await self._confirm(seen)
        except ApiFailed as error:
            log.warning("api_away", extra={"policy": str(self.name), "detail": str(error)})
            return []

    async def _confirm(self, seen: Mapping[str, WorkloadSeen]) -> list[tuple[str, Holding]]:
        """Who holds a member and is really gone. What the API server says on the way puts the world right."""
        await self._look_up_suspects()
        pods = {pod.uid: pod for pod in self._tools.world.pods(self.name.namespace)}
        out = []
        for workload, each in seen.items():
            waiting = [
                Holding("", str(said.get("pod", "")), uid)
                for uid, said in each.record.waiting.items()
                if uid not in pods
            ]
            for holding in [*doubtful(each, pods), *waiting]:
                if await self._is_gone(holding):
                    out += [(workload, holding)]
        return out

    async def _is_gone(self, holding: Holding) -> bool:
        """True when Kubernetes says that this pod runs no more, or is being ended on a node that does not answer."""
        pod = await self._look_up(holding.pod)
        if pod is None or pod.uid != holding.uid:
            self._tools.world.drop_pod(self.name.namespace, holding.pod, holding.uid)
            return True
        if pod.terminating and pod.node:
            return pod.over or not await self._tools.cluster.node_answers(pod.node)
        return pod.over

    async def _look_up(self, name: str) -> Pod | None:
        raw = await self._tools.cluster.pod(self.name.namespace, name)
        return self._tools.world.put_pod(raw) if raw is not None else None

    async def _look_up_suspects(self) -> None:
        """A pod that should report and is silent may be a ghost: the watch missed its end."""
        now = self._tools.steady()
        facts = self._facts(self._policy, None) if self._policy is not None else None
        for each in facts.pods if facts is not None else ():
            limit = 3 * self._policy.every if self._policy is not None else timedelta(0)
            quiet = each.silent is None or each.silent > limit
            uid = each.pod.uid
            if quiet and now - self._looked_up.get(uid, now - SUSPECT_S / 2) >= SUSPECT_S:
                self._looked_up[uid] = now
                found = await self._look_up(each.pod.name)
                if found is None or found.uid != uid:
                    self._tools.world.drop_pod(self.name.namespace, each.pod.name, uid)
            else:
                self._looked_up.setdefault(uid, now)

    async def _write_records(
        self, policy: Policy, store: Keyspace, keys: Mapping[str, WorkloadKeys], seen: Mapping[str, WorkloadSeen]
    ) -> None:
        for workload, each in seen.items():
            pods = [pod for pod in self._tools.world.pods(self.name.namespace) if pod.workload == workload and pod.live]
            identity = _identity(policy, workload)
            wanted = wanted_of(identity, await self._replicas_of(workload))
            live = [pod.uid for pod in pods if policy.selects(pod.namespace, pod.labels) or pod.mark == self.name.name]
            record = decide_record(policy, self._tools.agent.cluster, each, live=live, wanted=wanted)
            if record != each.record.policy:
                await asyncio.to_thread(write_policy, store, keys[workload], record)

    async def _replicas_of(self, workload: str) -> int | None:
        known = self._tools.world.workload(self.name.namespace, workload)
        if known is not None:
            return known.replicas
        kind, _, name = workload.partition(".")
        if kind != "ReplicaSet":
            return None
        try:
            found = await self._tools.cluster.replica_set(self.name.namespace, name)
        except ApiFailed:
            return None
        return int(found["spec"].get("replicas", 1)) if found is not None else None

    async def _release(
        self, store: Keyspace, keys: Mapping[str, WorkloadKeys], gone: Sequence[tuple[str, Holding]]
    ) -> None:
        for workload, each in gone:
            if not each.member:
                await asyncio.to_thread(stop_waiting, store, keys[workload], [each.uid])
            elif await asyncio.to_thread(release, store, keys[workload], each.member, each.uid):
                self._tools.metrics.releases.labels(self.name.namespace, self.name.name).inc()
                fields = {"policy": str(self.name), "workload": workload, "member": each.member, "pod": each.pod}
                log.info("member_released", extra=fields)

    async def _adopt(
        self, policy: Policy, store: Keyspace, keys: Mapping[str, WorkloadKeys], seen: Mapping[str, WorkloadSeen]
    ) -> None:
        pods = [pod for pod in self._tools.world.pods(self.name.namespace) if not pod.over and pod.workload in keys]
        meant = {pod.uid: pod for pod in pods if policy.selects(pod.namespace, pod.labels)}
        wrote = {uid: seen[pod.workload].previous_of(uid) for uid, pod in meant.items()}
        previous = {uid: member for uid, member in wrote.items() if member is not None}
        await self._adoption.keep(policy, meant, store, keys, previous=previous, replicas=self._replicas)

    # ----------------------------------------------------------------------------------------------------------- saying

    def _facts(self, policy: Policy, refusal: Said | None) -> Facts:
        world = self._tools.world
        pods = world.pods(self.name.namespace)
        meant = selected(policy, pods)
        detached = [
            pod.name
            for pod in pods
            if pod.mark == self.name.name and pod.live and pod.injection is Injection.INJECTED and pod not in meant
        ]
        joined = join(
            policy,
            meant,
            self._seen.workloads,
            own=self._adoption.reports,
            verified=self._verifier.found,
            elapsed=timedelta(seconds=self._tools.steady() - self._seen.at),
        )
        expected = [
            each.key
            for each in world.workloads(self.name.namespace)
            if each.replicas and policy.selects(self.name.namespace, each.labels)
        ]
        return Facts(
            policy,
            self._tools.agent,
            self._tools.wall(),
            refusal,
            self._warnings(policy),
            self._store,
            joined,
            tuple(detached),
            tuple(expected),
        )

    def _warnings(self, policy: Policy) -> tuple[Said, ...]:
        world, namespace = self._tools.world, self.name.namespace
        meant = selected(policy, world.pods(namespace))
        standing = world.standing(namespace) - {self.uid}
        others = [each for each in world.policies(namespace) if isinstance(each, Policy) and each.uid in standing]
        overlap = overlaps(policy, others, world.pods(namespace), world.templates(namespace))
        out = [overlap] if overlap is not None else []
        surging = sorted(
            each.key for each in world.workloads(namespace) if each.surges and policy.selects(namespace, each.labels)
        )
        if surging:
            text = f"{', '.join(surging[:3])}: a roll-out starts the new pod before the old one ends, so what changes"
            step = "in between is kept aside (StatefulSet, strategy Recreate or maxSurge: 0 lose nothing)."
            out.append(Said("Surges", f"{text} {step}"))
        alone = sorted({pod.workload for pod in meant if pod.identity(policy.identity) is None})
        if alone:
            text = f"pods of {', '.join(alone[:3])} are left alone: nothing says which state belongs to the next one"
            out.append(Said("LeftAlone", f"{text}. Narrow the selector, or set spec.identity."))
        return tuple(out)

    async def _show(self, facts: Facts) -> None:
        status = status_of(facts, self._previous)
        self._tools.metrics.shown(self.name, facts, status)
        written_at = self._written_at
        if not decide_write(self._previous, status, last_written_at=written_at, now=facts.now):
            return
        if not await self._tools.cluster.apply_status(self.name, self.uid, status):
            return
        self._tools.metrics.status_writes.labels(self.name.namespace, self.name.name).inc()
        news = transitions(self._told, status)
        self._told |= told_by(status)
        self._previous, self._written_at = status, facts.now
        for each in news:
            fields = {"policy": str(self.name), "condition": each["type"], "status": each["status"]}
            log.info("condition_changed", extra={**fields, "reason": each["reason"], "detail": each["message"]})
            await self._tools.cluster.post_event(self.name.namespace, event_of(facts, each))

    # ----------------------------------------------------------------------------------------------------------- ending

    def grave(self) -> Grave | None:
        """What is to be told to whom once the policy is gone; None if nobody was ever told anything."""
        if self._policy is None:
            return None
        return Grave(self.name, self.uid, self._policy.secret, tuple(self._keys.values()))


def _identity(policy: Policy, workload: str) -> Identity | None:
    return policy.identity or IDENTITY_OF_KIND.get(workload.partition(".")[0])


def event_of(facts: Facts, condition: Mapping[str, Any]) -> Status:
    """The Event of a condition's transition."""
    policy = facts.policy
    stamp = facts.now.isoformat(timespec="seconds").replace("+00:00", "Z")
    good = condition["status"] == "True"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{policy.name.name[:200]}.", "namespace": policy.name.namespace},
        "involvedObject": {
            "apiVersion": "resonance.dev/v1alpha1",
            "kind": "ResonanceSnapshot",
            "name": policy.name.name,
            "namespace": policy.name.namespace,
            "uid": policy.uid,
        },
        "type": "Normal" if good else "Warning",
        "reason": condition["reason"],
        "message": f"{condition['type']} is {condition['status']}: {condition['message']}"[:1024],
        "source": {"component": "resonance-operator"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
