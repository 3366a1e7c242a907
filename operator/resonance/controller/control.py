"""Which policies have a loop: one for each uid, started when the policy is seen, ended when it is gone."""

from __future__ import annotations

import asyncio
import logging

from resonance.controller.burial import Grave, bury, orphans
from resonance.controller.policy import PolicyLoop, Tools
from resonance.model.resource import Name

log = logging.getLogger(__name__)


class Control:
    """Keeps the loops in step with the world. Lives in one event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._running: dict[Name, tuple[PolicyLoop, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._buried: set[str] = set()
        self._changed: set[str] = set()
        self._woken = asyncio.Event()
        tools.world.when_changed(self._wake)

    def _wake(self, namespace: str) -> None:
        self._changed.add(namespace)
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. An end of this is an end of the operator."""
        self._changed |= self._tools.world.namespaces()
        try:
            while True:
                self._woken.clear()
                changed, self._changed = self._changed, set()
                for namespace in changed:
                    self._keep(namespace)
                if not self._changed:
                    await self._woken.wait()
        finally:
            tasks = [task for _, task in self._running.values()] + list(self._ending)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, namespace: str) -> None:
        wanted = {each.name: each.uid for each in self._tools.world.policies(namespace)}
        here = [name for name in self._running if name.namespace == namespace]
        for name in here:
            loop, task = self._running[name]
            if wanted.get(name) != loop.uid:
                del self._running[name]
                self._end(loop, task)
        for name, uid in wanted.items():
            if name not in self._running:
                loop = PolicyLoop(name, uid, self._tools)
                self._running[name] = loop, asyncio.create_task(loop.run(), name=f"policy {name}")
            else:
                self._running[name][0].wake()

        for grave in orphans(self._tools.world.pods(namespace), wanted):
            self._bury_later(grave, None)

    def _end(self, loop: PolicyLoop, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._tools.metrics.forget(loop.name)
        grave = loop.grave()
        if grave is not None:
            self._bury_later(grave, task)

    def _bury_later(self, grave: Grave, after: asyncio.Task[None] | None) -> None:
        if grave.uid in self._buried:
            return
        self._buried.add(grave.uid)
        ending = asyncio.create_task(self._bury(grave, after), name=f"bury {grave.name}")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _bury(self, grave: Grave, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.gather(after, return_exceptions=True)
        await bury(grave, self._tools.stores)
