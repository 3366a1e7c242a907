"""Adoption: snapshots of pods that ran before the policy came, over the pod network, with the agent's own engine.

The argument: a person applies a policy and expects the first snapshot within an interval, without restarting anything.
The operator therefore plays the agent from outside until the pod is replaced by an injected one. An address can be
given to another pod at any moment, so a capture counts only if the API server says, *after* it, that the address, the
pod and the container were still the same (:class:`WatchedSource`).

An adopted pod gets no restore and has no flush; when it is told to end, it is captured once more at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import timedelta

from resonance import __version__
from resonance.engine.session import Clock, Given, Session
from resonance.model.claim import Claimant, Host, Identity, Phase
from resonance.model.errors import CaptureFailed, ResonanceError
from resonance.model.naming import WorkloadKeys
from resonance.model.pod import Injection, Pod
from resonance.model.report import Outcome, Report
from resonance.model.resource import Policy
from resonance.source import Export, Source
from resonance.store.keyspace import Keyspace

HAND_OVER_POLL_S = 0.5
log = logging.getLogger(__name__)

AskPod = Callable[[str, str], Pod | None]
"""(namespace, name) → the pod as the API server has it now. Blocking; raises :class:`CaptureFailed` without an answer.
"""
MakeSource = Callable[[str, timedelta, int], Source]


@dataclass(frozen=True, slots=True)
class Process:
    """Which process answers at an address."""

    uid: str
    ip: str
    container: str


def process_of(pod: Pod, container: str | None) -> Process | None:
    """The app's process, None while it does not run."""
    app = pod.app(container)
    if app is None or not app.running_id or not pod.ip or pod.over:
        return None
    return Process(pod.uid, pod.ip, app.running_id)


class WatchedSource:
    """A source whose every export is thrown away unless the pod afterwards is the process that was meant."""

    def __init__(self, inner: Source, ask: Callable[[], Pod | None], expected: Process, container: str | None) -> None:
        self._inner = inner
        self._ask = ask
        self._expected = expected
        self._container = container

    def read(self, etag: str | None) -> Export:
        """One export. Raises :class:`CaptureFailed` when it may be another process's."""
        export = self._inner.read(etag)
        pod = self._ask()
        found = process_of(pod, self._container) if pod is not None else None
        if found == self._expected:
            return export
        if found is not None and (found.uid, found.ip) == (self._expected.uid, self._expected.ip):
            self._expected = found
            raise CaptureFailed("the container was restarted during the capture. The next turn tries again.")
        raise CaptureFailed("the pod ended or changed its address during the capture; nothing was stored.")

    def close(self) -> None:
        """Close the connection to the pod."""
        self._inner.close()


def can_adopt(pod: Pod, policy: Policy) -> bool:
    """True for a running, ready pod without our agent that the policy may snapshot from outside."""
    fits = pod.injection is Injection.OLDER_THAN_POLICY and pod.identity(policy.identity) is not None
    return fits and pod.live and pod.ready and process_of(pod, policy.container) is not None


@dataclass(frozen=True, slots=True)
class Means:
    """What adoption works with: threads, the session's clock, how to read an app, how to ask for a pod."""

    threads: Executor
    clock: Clock
    make_source: MakeSource
    ask: AskPod
    done: Callable[[Policy, Report], None]


class Adopted:
    """One adopted pod. ``rivals`` says that a newcomer may be waiting for a hand-over."""

    def __init__(self, session: Session, pod: Pod, policy: Policy, means: Means) -> None:
        self.pod = pod
        self.policy = policy
        self.rivals = False
        self.ending = False
        self._session = session
        self._means = means
        self._poked = asyncio.Event()
        self._flight: asyncio.Future[object] | None = None
        self._task = asyncio.create_task(self._run(), name=f"adopted {pod.namespace}/{pod.name}")

    @property
    def report(self) -> Report:
        """How its last turn ended."""
        return self._session.report

    def poke(self) -> None:
        """Look at ``rivals`` and ``ending`` now."""
        self._poked.set()

    def replicas(self, count: int) -> None:
        """How many replicas the store has; with any, a commit waits for one."""
        self._session.replicas = count

    async def stop(self) -> None:
        """No further turn; one that runs is let finish, for a commit is never cut in two."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._flight is not None:
            await asyncio.gather(self._flight, return_exceptions=True)
        self._session.close()

    async def _in_thread(self, call: Callable[[], object]) -> None:
        self._flight = asyncio.get_running_loop().run_in_executor(self._means.threads, call)
        await asyncio.shield(self._flight)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        said_goodbye = False
        due = loop.time()
        while True:
            now = loop.time()
            if (now >= due and not self.ending and not self.policy.suspend) or (self.ending and not said_goodbye):
                said_goodbye = self.ending
                every = self.policy.every.total_seconds()
                due = max(due + every, now + every * 0.5) + random.uniform(-0.05, 0.05) * every
                await self._turn(self._session.turn)
            elif self.rivals:
                await self._in_thread(self._hand_over)
            pause = HAND_OVER_POLL_S if self.rivals else max(0.05, due - loop.time())
            if self.ending or self.policy.suspend:
                pause = HAND_OVER_POLL_S if self.rivals else 5.0
            try:
                await asyncio.wait_for(self._poked.wait(), pause)
            except TimeoutError:
                continue
            self._poked.clear()

    async def _turn(self, turn: Callable[[], Report]) -> None:
        before = self._session.report.outcome
        await self._in_thread(turn)
        report = self._session.report
        self._means.done(self.policy, report)
        if report.outcome != before:
            facts = {"pod": f"{self.pod.namespace}/{self.pod.name}", "member": self._session.member or ""}
            log.info("adopted_pod_outcome", extra={**facts, "outcome": str(report.outcome), "reason": report.message})

    def _hand_over(self) -> None:
        try:
            polled = self._session.poll()
            if polled.lost:
                self._session.lose_member()
            elif polled.asked_to_hand_over:
                self._session.hand_over()
        except ResonanceError:
            return


class Adoption:
    """All adopted pods of one policy."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._pods: dict[str, Adopted] = {}

    @property
    def reports(self) -> Mapping[str, Report]:
        """Pod uid → how its last turn ended."""
        return {uid: each.report for uid, each in self._pods.items()}

    async def keep(
        self,
        policy: Policy,
        pods: Mapping[str, Pod],
        keyspace: Keyspace,
        keys: Mapping[str, WorkloadKeys],
        *,
        previous: Mapping[str, str],
        replicas: int,
    ) -> None:
        """Adopt whoever can be, let go of whoever is over. ``pods`` maps uid → every known pod that the policy selects.

        ``previous`` maps uid → the member that the pod wrote before, so that it goes back to that one and to no other.
        """
        for uid in [uid for uid, each in self._pods.items() if uid not in pods or self._is_other(each, policy)]:
            await self._pods.pop(uid).stop()
        for uid, pod in pods.items():
            if uid not in self._pods and can_adopt(pod, policy):
                session = self._session(policy, pod, keyspace, keys[pod.workload], previous.get(uid))
                self._pods[uid] = Adopted(session, pod, policy, self._means)
        newcomers = {pod.workload for pod in pods.values() if pod.injection is Injection.INJECTED and pod.live}
        for uid, each in self._pods.items():
            changed = (each.rivals, each.ending) != (each.pod.workload in newcomers, not pods[uid].live)
            each.rivals, each.ending = each.pod.workload in newcomers, not pods[uid].live
            each.replicas(replicas)
            if changed:
                each.poke()

    @staticmethod
    def _is_other(each: Adopted, policy: Policy) -> bool:
        return each.policy != policy

    def _session(
        self, policy: Policy, pod: Pod, keyspace: Keyspace, keys: WorkloadKeys, previous: str | None
    ) -> Session:
        identity = pod.identity(policy.identity) or Identity.POD_NAME
        member = pod.fixed_member(identity)
        expected = process_of(pod, policy.container) or Process(pod.uid, pod.ip, "")
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"{policy.scheme}://{host}:{policy.port}{policy.path}"
        inner = self._means.make_source(url, policy.timeout, policy.max_bytes)
        ask = self._means.ask
        source = WatchedSource(inner, lambda: ask(pod.namespace, pod.name), expected, policy.container)
        return Session(
            keyspace,
            keys,
            Claimant(pod.uid, pod.name, pod.template, identity, member, Host.OPERATOR, Phase.RUNNING, previous),
            source,
            self._means.clock,
            file=None,
            given=Given(),
            report=replace(_FIRST, uid=pod.uid, pod=pod.name, node=pod.node, every_ms=_ms(policy.every)),
        )

    async def stop(self) -> None:
        """Let go of all."""
        for uid in list(self._pods):
            await self._pods.pop(uid).stop()


_FIRST = Report(Outcome.SKIPPED, "not captured yet", "", "", "", str(Host.OPERATOR), __version__, 0)


def _ms(length: timedelta) -> int:
    return round(length.total_seconds() * 1000)
