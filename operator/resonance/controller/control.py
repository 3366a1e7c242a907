"""Which policies have a loop: one for each uid, started when the policy is seen, ended when it is gone."""

from __future__ import annotations

import asyncio
import logging

from resonance.controller.policy import PolicyLoop, Tools
from resonance.model.resource import Name

log = logging.getLogger(__name__)


class Control:
    """Keeps the loops in step with the world. Lives in one event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._running: dict[Name, tuple[PolicyLoop, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._changed: set[str] = set()
        self._woken = asyncio.Event()
        tools.world.when_changed(self._wake)

    def _wake(self, namespace: str) -> None:
        self._changed.add(namespace)
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. An end of this is an end of the operator."""
        self._changed |= {each.name.namespace for each in self._tools.world.policies()}
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

    def _end(self, loop: PolicyLoop, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._tools.metrics.forget(loop.name)
        ending = asyncio.create_task(self._bury(loop, task), name=f"bury {loop.name}")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    @staticmethod
    async def _bury(loop: PolicyLoop, task: asyncio.Task[None]) -> None:
        await asyncio.gather(task, return_exceptions=True)
        await loop.bury()
