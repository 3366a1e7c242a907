"""``resonance-operator``: the composition root. It owns the clocks, the threads and the signals, and hands them down.

kopf ends when the API server is away for long. Then so do we, non-zero, and the kubelet starts us again: everything is
rebuilt from facts within seconds, and meanwhile nothing is lost, because snapshots, restores and injection do not need
us.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from resonance import __version__
from resonance.controller import handlers, logs
from resonance.controller.adoption import Means
from resonance.controller.api import POLICIES, Api, ApiFailed, connect, from_thread
from resonance.controller.control import Control
from resonance.controller.metrics import Metrics
from resonance.controller.policy import Tools
from resonance.controller.stores import Stores
from resonance.controller.world import WORKLOAD_KINDS, World
from resonance.engine.session import Now
from resonance.model.errors import CaptureFailed
from resonance.model.facts import AgentSettings
from resonance.model.pod import Pod, parse_pod
from resonance.source import HttpSource
from resonance.store.redis_keyspace import RedisKeyspace

CAPTURES_AT_ONCE = 4
LEARN_ATTEMPTS = 15
IDENTITY: Any = "resonance-operator"
"""What kopf calls itself; left alone it asks for the user's name, which a numeric user has not."""
log = logging.getLogger("resonance.controller")


@dataclass(frozen=True, slots=True)
class Memo:
    """What kopf hands to handlers. kopf copies its memo for each object; a frozen one is its own copy."""

    world: World

    def __copy__(self) -> Memo:
        return self


class Health:
    """What the probes are told."""

    def __init__(self) -> None:
        self.ready = False


async def serve_http(port: int, metrics: Metrics, health: Health) -> web.AppRunner:
    """``/metrics``, ``/healthz`` and ``/readyz``."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok\n" if health.ready else "starting\n", status=200 if health.ready else 503)

    app = web.Application()
    app.add_routes([web.get("/metrics", show_metrics), web.get("/healthz", alive), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "", port).start()
    return runner


def take_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set ``stop``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def learn(api: Api, world: World) -> None:
    """Read everything once, so that the first decision is made on the whole, not on what a watch told first."""
    for kind, plural in WORKLOAD_KINDS.items():
        for raw in await api.list_all(f"/apis/apps/v1/{plural}"):
            world.put_workload(kind, raw)
    for raw in await api.list_all("/api/v1/pods"):
        world.put_pod(raw)
    for raw in await api.list_all(POLICIES):
        world.put_policy(raw)


async def _patiently(api: Api, world: World) -> str:
    """Learn everything and give the cluster's id. A server that is just starting may need a moment."""
    for _ in range(LEARN_ATTEMPTS - 1):
        try:
            await learn(api, world)
            return await api.cluster_id()
        except ApiFailed as error:
            log.warning("api_not_ready", extra={"detail": str(error)})
            await asyncio.sleep(1)
    await learn(api, world)
    return await api.cluster_id()


def _now() -> Now:
    return Now(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)


def _wall() -> datetime:
    return datetime.now(UTC)


def _tools(api: Api, world: World, metrics: Metrics, agent: AgentSettings, threads: ThreadPoolExecutor) -> Tools:
    loop = asyncio.get_running_loop()

    def ask_pod(namespace: str, name: str) -> Pod | None:
        try:
            raw = from_thread(loop, api.pod(namespace, name))
        except (ApiFailed, TimeoutError) as error:
            text = f"the API server could not confirm that the pod is still the same: {error}"
            raise CaptureFailed(f"{text} Nothing was stored.") from error
        return parse_pod(raw) if raw is not None else None

    means = Means(
        threads,
        _now,
        lambda url, timeout, max_bytes: HttpSource(url, timeout=timeout, max_bytes=max_bytes),
        ask_pod,
        lambda policy, report: metrics.captured(policy.name, report),
    )
    stores = Stores(api, RedisKeyspace, time.monotonic)
    return Tools(world, api, stores, metrics, agent, means, _wall, time.monotonic)


async def operate(environment: Mapping[str, str]) -> int:
    """Run until SIGTERM (0) or until the API server is lost (1)."""
    image = environment.get("RESONANCE_AGENT_IMAGE", "")
    if not image:
        log.error("not_configured", extra={"detail": "RESONANCE_AGENT_IMAGE is not set: name the agent's image."})
        return 2
    stop = asyncio.Event()
    take_signals(stop)
    health, metrics, world = Health(), Metrics(CollectorRegistry()), World()
    http = await serve_http(int(environment.get("METRICS_PORT", "8080")), metrics, health)
    threads = ThreadPoolExecutor(CAPTURES_AT_ONCE, thread_name_prefix="capture")
    api: Api | None = None
    try:
        api = await connect()
        cluster = await _patiently(api, world)
        policy = environment.get("RESONANCE_AGENT_IMAGE_PULL_POLICY", "") or "IfNotPresent"
        tools = _tools(api, world, metrics, AgentSettings(image, policy, cluster), threads)
        log.info("started", extra={"version": __version__, "cluster": cluster, "policies": len(world.policies())})
        return await _run(tools, world, health, stop)
    except ApiFailed as error:
        log.error("api_failed", extra={"detail": str(error)})
        return 1
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        if api is not None:
            await api.close()
        await http.cleanup()


async def _run(tools: Tools, world: World, health: Health, stop: asyncio.Event) -> int:
    ready, kopf_stop = asyncio.Event(), asyncio.Event()
    control = asyncio.create_task(Control(tools).run(), name="control")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    reading = asyncio.create_task(_until_ready(ready, health, stop), name="ready")
    await asyncio.sleep(0)
    watching = asyncio.create_task(_watch(world, ready, kopf_stop), name="kopf")
    done, _ = await asyncio.wait({control, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopped = stopping in done
    for each in done - {stopping}:
        if not each.cancelled() and each.exception() is not None:
            log.error("ended", extra={"task": each.get_name(), "detail": repr(each.exception())[:500]})
        else:
            log.error("ended", extra={"task": each.get_name(), "detail": "it ended by itself"})
    kopf_stop.set()
    tasks: set[asyncio.Task[Any]] = {control, watching, stopping, reading}
    control.cancel()
    await asyncio.wait({control, watching}, timeout=3)
    for each in tasks:
        each.cancel()
    await asyncio.wait(tasks, timeout=2)
    log.info("stopped", extra={"detail": "SIGTERM" if stopped else "something ended that must not"})
    return 0 if stopped else 1


async def _watch(world: World, ready: asyncio.Event, stop: asyncio.Event) -> None:
    await kopf.operator(
        registry=handlers.registry(world),
        memo=Memo(world),
        identity=IDENTITY,
        clusterwide=True,
        standalone=True,
        ready_flag=ready,
        stop_flag=stop,
    )


async def _until_ready(ready: asyncio.Event, health: Health, stop: asyncio.Event) -> None:
    await ready.wait()
    take_signals(stop)  # kopf has put its own handlers in place
    health.ready = True


def main() -> int:
    """The entry point."""
    logs.start()
    code = asyncio.run(operate(os.environ))
    sys.stderr.flush()
    os._exit(code)  # a capture that hangs in a thread must not keep us from being started again


if __name__ == "__main__":
    main()
