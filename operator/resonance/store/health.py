"""Whether a Redis can be trusted to keep what it acknowledged: a judgement of its ``INFO``.

A pure function over what the server says of itself. ``PING`` proves that a server answers; it does not say that it
evicts keys, keeps nothing on disk, or has no memory left for the next snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MEMORY_HEADROOM = 0.10
"""The part of ``maxmemory`` that must be free: a whole new base is staged beside the live state before it replaces it.
"""


class Danger(StrEnum):
    """Why a store is not safe; the first one found is the condition's reason, so the gravest comes first."""

    LOADING = "Loading"
    READ_ONLY_REPLICA = "ReadOnlyReplica"
    EVICTION = "EvictionAllowed"
    KEYS_EVICTED = "KeysEvicted"
    NOT_DURABLE = "NotDurable"
    AOF_FAILING = "AofWriteFailed"
    SAVE_FAILING = "SaveFailed"
    MEMORY_SHORT = "MemoryShort"


@dataclass(frozen=True, slots=True)
class Finding:
    """One danger, and what to do about it."""

    danger: Danger
    message: str


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself. ``evicted`` is its counter since it started."""

    findings: tuple[Finding, ...]
    replicas: int
    evicted: int

    @property
    def safe(self) -> bool:
        return not self.findings


def judge(info: Mapping[str, object], *, evicted_before: int | None = None) -> Health:
    """Judge the flattened ``INFO`` of one server. ``evicted_before`` is the counter as last seen, None at the first
    look.

    A field that the server does not report is passed over: an older or a managed Redis hides some.
    """
    replicas = _number(info, "connected_slaves") or 0
    evicted = _number(info, "evicted_keys") or 0
    found = [
        *_serving(info),
        *_evicting(info, evicted, evicted_before),
        *_durable(info, replicas),
        *_headroom(info),
    ]
    return Health(tuple(found), replicas, evicted)


def worst(infos: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    """One ``INFO`` for several primaries: of each fact that :func:`judge` reads the worst, evicted keys in sum."""
    if len(infos) == 1:
        return infos[0]
    fullest: Mapping[str, object] = max(infos, key=_fullness)
    out = dict(fullest)
    out["evicted_keys"] = sum(_number(each, "evicted_keys") or 0 for each in infos)
    out["loading"] = max(_number(each, "loading") or 0 for each in infos)
    for name in ("connected_slaves", "aof_enabled"):
        out[name] = min(_number(each, name) or 0 for each in infos)
    for name, good in (("role", "master"), ("aof_last_write_status", "ok"), ("rdb_last_bgsave_status", "ok")):
        out[name] = next((each[name] for each in infos if each.get(name, good) != good), good)
    policies = [str(each.get("maxmemory_policy", "noeviction")) for each in infos]
    out["maxmemory_policy"] = next((each for each in policies if _evicts(each)), policies[0])
    return out


def _fullness(info: Mapping[str, object]) -> float:
    limit = _number(info, "maxmemory") or 0
    return (_number(info, "used_memory") or 0) / limit if limit else 0.0


def _evicts(policy: str) -> bool:
    return policy != "noeviction" and not policy.startswith("volatile-")


def _serving(info: Mapping[str, object]) -> list[Finding]:
    out = []
    if _number(info, "loading"):
        out.append(Finding(Danger.LOADING, "it is still loading its data from disk; wait until it has."))
    if info.get("role") in ("slave", "replica"):
        remedy = "point the Secret's url at the primary"
        out.append(Finding(Danger.READ_ONLY_REPLICA, f"it is a replica and takes no writes; {remedy}."))
    return out


def _evicting(info: Mapping[str, object], evicted: int, before: int | None) -> list[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    out = []
    if _evicts(policy):
        text = f"maxmemory-policy is {policy}: under memory pressure it silently drops snapshots; set it to noeviction."
        out.append(Finding(Danger.EVICTION, text))
    if before is not None and evicted > before:
        text = f"it has evicted {evicted - before} keys since the last look; raise maxmemory and set noeviction."
        out.append(Finding(Danger.KEYS_EVICTED, text))
    return out


def _durable(info: Mapping[str, object], replicas: int) -> list[Finding]:
    out = []
    aof = _number(info, "aof_enabled")
    if aof == 0 and replicas == 0:
        text = "it has neither an append-only file nor a replica, so a crash loses snapshots; set appendonly yes."
        out.append(Finding(Danger.NOT_DURABLE, text))
    if aof and info.get("aof_last_write_status", "ok") != "ok":
        out.append(Finding(Danger.AOF_FAILING, "its append-only file cannot be written; check its disk."))
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        text = "its last save to disk failed; check its disk, its memory and vm.overcommit_memory."
        out.append(Finding(Danger.SAVE_FAILING, text))
    return out


def _headroom(info: Mapping[str, object]) -> list[Finding]:
    limit, used = _number(info, "maxmemory") or 0, _number(info, "used_memory") or 0
    if limit <= 0 or used <= limit * (1 - MEMORY_HEADROOM):
        return []
    share = 100 * used // limit
    return [
        Finding(Danger.MEMORY_SHORT, f"{share} % of its maxmemory is used: the next snapshot may not fit; raise it.")
    ]


def _number(info: Mapping[str, object], name: str) -> int | None:
    value = info.get(name)
    if isinstance(value, bool | int):
        return int(value)
    return int(value) if isinstance(value, str) and value.isdigit() else None
