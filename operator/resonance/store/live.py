"""Bringing the readable live hashes of a member to a new state, whole or by what changed.

Small states and changes go straight into the guarded script. A large whole state is staged first, in keys that nobody
reads and that expire by themselves; the script then only renames them, so that no other client waits long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from resonance.model.naming import MemberKeys
from resonance.model.state import Delta, State
from resonance.store.keyspace import Write

INLINE_BYTES = 256 * 1024
"""What one script may carry of a whole state; more is staged."""
STAGE_TTL_S = 600
_FIELDS_A_WRITE = 200


@dataclass(frozen=True, slots=True)
class LiveWrites:
    """``staging`` is written beforehand, into the keys ``staged``; ``writes`` belong into the guarded script."""

    staging: tuple[Write, ...]
    writes: tuple[Write, ...]
    staged: tuple[str, ...]
    onto: bool = False
    """True where the writes change what must stand already."""


def replace_live(keys: MemberKeys, old: Collection[str], after: State, commit: str) -> LiveWrites:
    """Replace the whole live state; ``old`` are the kinds that may stand there now."""
    vanished = [("UNLINK", keys.live(kind)) for kind in old if kind not in after.kinds]
    if after.size() <= INLINE_BYTES:
        return LiveWrites((), (*vanished, *_inline(keys, after), _metrics(keys, after.metrics)), ())
    staging: list[Write] = []
    writes: list[Write] = []
    staged: list[str] = []
    for kind, entries in after.kinds.items():
        live = keys.live(kind)
        writes.append(("UNLINK", live))
        if entries:
            stage = keys.stage(commit, kind)
            staged.append(stage)
            staging += expiring(stage, hset(stage, entries.items()))
            writes += [("RENAME", stage, live), ("PERSIST", live)]
    return LiveWrites(tuple(staging), (*vanished, *writes, _metrics(keys, after.metrics)), tuple(staged))


def expiring(stage: str, filling: Iterable[Write]) -> Iterator[Write]:
    """Fill a key that goes by itself: its time is set together with its first piece, as the writer may die after it."""
    yield ("UNLINK", stage)
    for place, write in enumerate(filling):
        yield write
        if place == 0:
            yield ("EXPIRE", stage, STAGE_TTL_S)


def change_live(keys: MemberKeys, before: State, delta: Delta) -> LiveWrites:
    """Change the live state, which must be ``before``."""
    writes: list[Write] = [("UNLINK", keys.live(kind)) for kind in before.kinds if kind not in delta.kinds]
    for kind, entries in delta.changed.items():
        writes += hset(keys.live(kind), entries.items())
    for kind, ids in delta.removed.items():
        if kind in delta.kinds:
            starts = range(0, len(ids), _FIELDS_A_WRITE)
            writes += [("HDEL", keys.live(kind), *ids[start : start + _FIELDS_A_WRITE]) for start in starts]
    if delta.metrics_changed:
        writes.append(_metrics(keys, delta.metrics))
    return LiveWrites((), tuple(writes), (), onto=True)


def _metrics(keys: MemberKeys, metrics: bytes | None) -> Write:
    if metrics is None:
        return ("UNLINK", keys.metrics, keys.exact_metrics)
    return ("METRICS", keys.metrics, keys.exact_metrics, metrics)


def _inline(keys: MemberKeys, state: State) -> Iterator[Write]:
    for kind, entries in state.kinds.items():
        yield ("UNLINK", keys.live(kind))
        yield from hset(keys.live(kind), entries.items())


def hset(key: str, items: Iterable[tuple[str, str | bytes]]) -> Iterator[Write]:
    """``HSET`` of all items, in pieces that a script can carry."""
    flat = [each for pair in items for each in pair]
    for start in range(0, len(flat), 2 * _FIELDS_A_WRITE):
        yield ("HSET", key, *flat[start : start + 2 * _FIELDS_A_WRITE])
