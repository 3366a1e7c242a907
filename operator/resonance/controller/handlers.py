"""kopf as a thin skin: watches in, world out. No timers, daemons, indexes or finalizers, and nothing is written by
kopf.

``on.event`` alone is used: it keeps no progress and no last-handled state in the objects, runs for what was there
before, and tells of deletions without a finalizer, so that deleting a policy never waits for us.
"""

from __future__ import annotations

from typing import Any

import kopf

from resonance.controller.world import WORKLOAD_KINDS, World
from resonance.model.resource import GROUP, PLURAL, VERSION, name_of

FINALIZER = "resonance.dev/finalizer"
"""Never set; kopf wants a name of one's own."""


def registry(world: World) -> kopf.OperatorRegistry:
    """An explicit registry; importing this module registers nothing."""
    out = kopf.OperatorRegistry()
    kopf.on.login(registry=out)(login)
    kopf.on.startup(registry=out)(configure)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=out)(_policies(world))
    kopf.on.event("", "v1", "pods", registry=out)(_pods(world))
    for kind, plural in WORKLOAD_KINDS.items():
        kopf.on.event("apps", "v1", plural, registry=out, id=plural)(_workloads(world, kind))
    return out


def login(**given: Any) -> kopf.ConnectionInfo | None:
    """The pod's service account, else ``$KUBECONFIG``."""
    return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)


def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Settings that kopf reads at its start; each differs from its default for the reason beside it."""
    settings.peering.standalone = True  # two operators do no harm; peering would pause both
    settings.scanning.disabled = True  # the resource must be there at the start, else we end and are started again
    settings.posting.loggers = False  # Events are ours, and only on transitions
    settings.networking.request_timeout = 20
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.execution.default_backoff = 5
    settings.process.ultimate_exiting_timeout = 20
    settings.queueing.exit_timeout = 1
    settings.persistence.finalizer = FINALIZER


def _policies(world: World) -> Any:
    async def policy_seen(event: Any, **_: Any) -> None:
        raw = event["object"]
        if event["type"] == "DELETED":
            world.drop_policy(name_of(raw), raw["metadata"]["uid"])
        else:
            world.put_policy(raw)

    return policy_seen


def _pods(world: World) -> Any:
    async def pod_seen(event: Any, **_: Any) -> None:
        raw = event["object"]
        if event["type"] == "DELETED":
            world.drop_pod(raw["metadata"]["namespace"], raw["metadata"]["name"], raw["metadata"]["uid"])
        else:
            world.put_pod(raw)

    return pod_seen


def _workloads(world: World, kind: str) -> Any:
    async def workload_seen(event: Any, **_: Any) -> None:
        raw = event["object"]
        if event["type"] == "DELETED":
            world.drop_workload(kind, raw["metadata"]["namespace"], raw["metadata"]["name"])
        else:
            world.put_workload(kind, raw)

    return workload_seen
