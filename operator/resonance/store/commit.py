"""Appending one snapshot to a member, and keeping a superseded or suspect one aside.

An append is one guarded script, whatever happens on the way: the writer dies before it (nothing changed), or after it
(the whole snapshot stands). Large states are staged first in keys that nobody reads and that expire by themselves; the
script then only renames them, so that no other client waits long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from resonance.codec import proof_of, seal_base, seal_delta
from resonance.model.commit import Append, CommitRequest, Refusal, Refuse, decide_commit
from resonance.model.errors import StoreBusy
from resonance.model.manifest import Head, Manifest, MemberRecord
from resonance.model.naming import MemberKeys
from resonance.model.retention import Appended, append, needs_base
from resonance.model.state import Delta, State, advance, diff, digest
from resonance.store.keyspace import FieldIs, Guard, HashIs, Keyspace, Write
from resonance.store.member import Member, Seen, load

INLINE_BYTES = 256 * 1024
"""What one script may carry; more is staged. Measured so that another client waits about 10 ms at most."""
DELTA_BYTES = 1024 * 1024
"""The largest change that goes on top of the live state in one script; it costs the server about 5 ms."""
STAGE_TTL_S = 600
_FIELDS_A_WRITE = 200
_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class Change:
    """A captured state, and what the writer knows of the one before: ``before`` is None when it knows nothing."""

    after: State
    digest: str
    before: State | None
    delta: Delta | None


@dataclass(frozen=True, slots=True)
class Saved:
    """The snapshot stands. ``evicted_tips`` had to go to make room."""

    seen: Seen
    manifest: Manifest
    evicted_tips: tuple[Manifest, ...]
    tipped: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changed; ``seen`` is fresh."""

    why: Refusal
    seen: Seen


def change_from(before: State | None, before_digest: str | None, after: State) -> Change:
    """What a capture changes; computes the digest at the cost of the change where the one before is known."""
    if before is None or before_digest is None:
        return Change(after, digest(after), None, None)
    delta = diff(before, after)
    return Change(after, advance(before_digest, before, delta), before, delta)


def commit(
    keyspace: Keyspace, member: Member, seen: Seen, request: CommitRequest, change: Change, draft: Manifest
) -> Saved | Refused:
    """Append one capture, or say why not. ``draft`` is its manifest without chain, sizes and epoch.

    ``seen`` may be old: a refused guard reads again and decides again. Raises store errors; after ``StoreUnreachable``
    the commit may stand, and the same request tells (``Duplicate``).
    """
    fresh = False
    staged: frozenset[str] = frozenset()
    for _ in range(_ATTEMPTS):
        decision = decide_commit(seen.record, seen.slot, request)
        if isinstance(decision, Refuse):
            if fresh:
                return Refused(decision.why, seen)
        else:
            plan = _plan(member, seen, decision, change, draft)
            if plan.staging and plan.name not in staged:
                keyspace.stage(plan.staging)
                staged |= {plan.name}
            if keyspace.apply(plan.guards, plan.writes) is not None:
                return Saved(plan.after, plan.manifest, plan.appended.evicted_tips, decision.tip)
        seen, fresh = load(keyspace, member), True
    raise StoreBusy(f"{member.keys.head} changed {_ATTEMPTS} times while committing. It will be tried again.")


@dataclass(frozen=True, slots=True)
class _Plan:
    name: str
    staging: list[Write]
    guards: list[Guard]
    writes: list[Write]
    manifest: Manifest
    appended: Appended
    after: Seen


def _plan(member: Member, seen: Seen, decision: Append, change: Change, draft: Manifest) -> _Plan:
    """Everything that one append writes, computed from what was seen."""
    keys = member.keys
    incremental = _is_incremental(seen, decision, change)
    blob, chain = _blob(seen, change, incremental=incremental)
    manifest = replace(
        draft,
        epoch=decision.epoch,
        stored_bytes=len(blob),
        chain=(*chain, draft.seq),
        proof=proof_of(blob),
        state_bytes=change.after.size(),
    )
    head = Head(decision.epoch, manifest.writer, manifest)
    appended = append(seen.record, head, tip=decision.tip)
    fields = {name.encode(): value.encode() for name, value in head.to_fields().items()}
    staging, state_writes = _state_writes(keys, seen, change, manifest.commit, incremental=incremental)
    blob_staging, blob_writes = _blob_writes(keys, manifest, blob)
    writes: list[Write] = [*state_writes, *blob_writes]
    writes += [("DEL", keys.head), ("HSET", keys.head, *_flat(head.to_fields().items()))]
    writes += [("LPUSH", keys.snapshots, manifest.to_json())]
    writes += [("LTRIM", keys.snapshots, 0, len(appended.record.recent) - 1)]
    writes += _kept_writes(keys, seen.record, appended.record)
    writes += [("UNLINK", keys.delta(seq) if kind == "delta" else keys.base(seq)) for kind, seq in appended.unneeded]
    guards: list[Guard] = [HashIs(keys.head, seen.raw_head)]
    slot, raw_slot = seen.slot, seen.raw_slot
    old = seen.record.head
    if member.workload is not None and (old is None or decision.epoch > old.epoch or decision.slot is not None):
        guards.append(FieldIs(member.workload.slots, member.name, seen.raw_slot))
    if decision.slot is not None and member.workload is not None:
        slot, text = decision.slot, decision.slot.to_json()
        writes.append(("HSET", member.workload.slots, member.name, text))
        raw_slot = text.encode()
    name = "incremental" if incremental else "whole"
    return _Plan(
        name,
        [*staging, *blob_staging],
        guards,
        writes,
        manifest,
        appended,
        Seen(appended.record, fields, slot, raw_slot),
    )


def _is_incremental(seen: Seen, decision: Append, change: Change) -> bool:
    """Changes go on top of the live state only if that is the very state which the writer compared with."""
    head = seen.record.head
    if head is None or change.delta is None or change.before is None or decision.tip:
        return False
    size = change.delta.size()
    return size <= DELTA_BYTES and size * 2 <= max(change.after.size(), 4096)


def _blob(seen: Seen, change: Change, *, incremental: bool) -> tuple[bytes, tuple[int, ...]]:
    head = seen.record.head
    if incremental and change.delta is not None and head is not None and not _rebase(seen.record, head.manifest):
        return seal_delta(change.delta), head.manifest.chain
    return seal_base(change.after), ()


def _rebase(record: MemberRecord, manifest: Manifest) -> bool:
    stored = {each.seq: each.stored_bytes for each in record.all()}
    base, *deltas = manifest.chain
    return needs_base(
        manifest, chain_bytes=sum(stored.get(seq, 0) for seq in deltas), base_bytes=stored.get(base, 1 << 62)
    )


def _state_writes(
    keys: MemberKeys, seen: Seen, change: Change, commit: str, *, incremental: bool
) -> tuple[list[Write], list[Write]]:
    """(staging, guarded writes) that bring the live hashes to the new state."""
    metrics = _metrics_write(keys, change)
    if incremental and change.delta is not None and change.before is not None:
        return [], [*_delta_writes(keys, change.before, change.delta), *metrics]
    old = seen.record.head.manifest.counts if seen.record.head is not None else {}
    vanished: list[Write] = [("UNLINK", keys.live(kind)) for kind in old if kind not in change.after.kinds]
    if change.after.size() <= INLINE_BYTES:
        return [], [*vanished, *_inline_writes(keys, change.after), *metrics]
    staging, renames = _staged_writes(keys, change.after, commit)
    return staging, [*vanished, *renames, *metrics]


def _metrics_write(keys: MemberKeys, change: Change) -> list[Write]:
    if change.after.metrics is None:
        return [("UNLINK", keys.metrics)]
    return [("SET", keys.metrics, change.after.metrics)]


def _inline_writes(keys: MemberKeys, state: State) -> Iterator[Write]:
    for kind, entries in state.kinds.items():
        yield ("UNLINK", keys.live(kind))
        yield from _hset(keys.live(kind), entries.items())


def _staged_writes(keys: MemberKeys, state: State, commit: str) -> tuple[list[Write], list[Write]]:
    staging: list[Write] = []
    renames: list[Write] = []
    for kind, entries in state.kinds.items():
        live = keys.live(kind)
        renames.append(("UNLINK", live))
        if entries:
            stage = keys.stage(commit, kind)
            staging += [("UNLINK", stage), *_hset(stage, entries.items()), ("EXPIRE", stage, STAGE_TTL_S)]
            renames += [("RENAME", stage, live), ("PERSIST", live)]
    return staging, renames


def _delta_writes(keys: MemberKeys, before: State, delta: Delta) -> Iterator[Write]:
    for kind in before.kinds:
        if kind not in delta.kinds:
            yield ("UNLINK", keys.live(kind))
    for kind, entries in delta.changed.items():
        yield from _hset(keys.live(kind), entries.items())
    for kind, ids in delta.removed.items():
        for start in range(0, len(ids), _FIELDS_A_WRITE):
            yield ("HDEL", keys.live(kind), *ids[start : start + _FIELDS_A_WRITE])


def _hset(key: str, items: Iterable[tuple[str, bytes]]) -> Iterator[Write]:
    flat = _flat(items)
    for start in range(0, len(flat), 2 * _FIELDS_A_WRITE):
        yield ("HSET", key, *flat[start : start + 2 * _FIELDS_A_WRITE])


def _flat(items: Iterable[tuple[str, str | bytes]]) -> list[str | bytes]:
    return [each for pair in items for each in pair]


def _blob_writes(keys: MemberKeys, manifest: Manifest, blob: bytes) -> tuple[list[Write], list[Write]]:
    name = keys.base(manifest.seq) if len(manifest.chain) == 1 else keys.delta(manifest.seq)
    if len(blob) <= INLINE_BYTES:
        return [], [("SET", name, blob)]
    stage = keys.stage(manifest.commit, "blob")
    pieces = range(0, len(blob), INLINE_BYTES)
    filling: list[Write] = [("SETRANGE", stage, start, blob[start : start + INLINE_BYTES]) for start in pieces]
    staging: list[Write] = [("UNLINK", stage), *filling, ("EXPIRE", stage, STAGE_TTL_S)]
    return staging, [("RENAME", stage, name), ("PERSIST", name)]


def _kept_writes(keys: MemberKeys, before: MemberRecord, after: MemberRecord) -> Iterator[Write]:
    for seq, each in after.kept.items():
        if before.kept.get(seq) != each:
            yield ("HSET", keys.kept, str(seq), each.to_json())
    for seq in before.kept:
        if seq not in after.kept:
            yield ("HDEL", keys.kept, str(seq))


def set_aside(keyspace: Keyspace, key: str, manifest: Manifest, state: State) -> None:
    """Overwrite ``key`` (a tip of a superseded pod, or the quarantine) with this capture. Raises store errors."""
    blob = seal_base(state)
    stage = f"{key}:stage:{manifest.commit}"
    whole = replace(manifest, stored_bytes=len(blob), chain=(manifest.seq,), proof=proof_of(blob))
    whole = replace(whole, state_bytes=state.size())
    staging: list[Write] = [("UNLINK", stage), ("HSET", stage, "manifest", whole.to_json(), "blob", blob)]
    keyspace.stage([*staging, ("EXPIRE", stage, STAGE_TTL_S)])
    keyspace.apply([], [("UNLINK", key), ("RENAME", stage, key), ("PERSIST", key)])
