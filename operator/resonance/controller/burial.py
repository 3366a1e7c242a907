"""Tombstones: a policy is gone, and its agents are told through Redis to stop. Its data stays.

Also for policies that were deleted while the operator was away: an injected pod carries all that is needed to find its
keys, so pods whose policy is not there any more tell of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from resonance.controller.stores import Store, Stores
from resonance.model.errors import StoreError
from resonance.model.naming import WorkloadKeys, workload_keys
from resonance.model.pod import Pod
from resonance.model.resource import Name
from resonance.store.keyspace import Keyspace
from resonance.store.workload import read_slot, write_policy

PAUSE_S, ATTEMPTS = 5.0, 120
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grave:
    """A policy that is gone: where its agents look."""

    name: Name
    uid: str
    secret: str
    workloads: tuple[WorkloadKeys, ...]


async def bury(grave: Grave, stores: Stores) -> None:
    """Leave a tombstone in every workload's record. Tried for ten minutes: the Secret may be gone as well."""
    for attempt in range(ATTEMPTS):
        store = await stores.get(grave.name.namespace, grave.secret)
        if isinstance(store, Store):
            try:
                await asyncio.to_thread(_write, store, grave.workloads, grave.uid)
            except StoreError as error:
                if attempt == 0:
                    log.warning("tombstone_delayed", extra={"policy": str(grave.name), "detail": str(error)})
            else:
                log.info("policy_buried", extra={"policy": str(grave.name), "workloads": len(grave.workloads)})
                return
        await asyncio.sleep(PAUSE_S)
    log.warning("tombstone_given_up", extra={"policy": str(grave.name)})


def _write(store: Keyspace, workloads: Sequence[WorkloadKeys], uid: str) -> None:
    for keys in workloads:
        _, record = read_slot(store, keys, "")
        if record is not None and record.policy_uid == uid and not record.deleted:
            write_policy(store, keys, replace(record, deleted=True))


def orphans(pods: Iterable[Pod], policies: Iterable[Name]) -> list[Grave]:
    """The policies that injected some of these pods of one namespace and are not there any more."""
    there = set(policies)
    found: dict[str, Grave] = {}
    for pod in pods:
        origin, name = pod.origin, Name(pod.namespace, pod.mark)
        if origin is None or pod.over or not pod.mark or name in there:
            continue
        keys = workload_keys(origin.prefix, pod.namespace, pod.mark, pod.workload)
        before = found.get(origin.policy_uid, Grave(name, origin.policy_uid, origin.secret, ()))
        if keys not in before.workloads:
            found[origin.policy_uid] = replace(before, workloads=(*before.workloads, keys))
    return list(found.values())
