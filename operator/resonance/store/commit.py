"""Appending one snapshot to a member.

An append is one guarded script, whatever happens on the way: the writer dies before it (nothing changed), or after it
(the whole snapshot stands). What is large is staged first; the guard also says that it is still there, because a script
that fails in its middle would not be undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from resonance.model.commit import Append, CommitRequest, Refusal, decide_commit
from resonance.model.errors import StoreBusy, StoreDamaged
from resonance.model.manifest import Head, Manifest, MemberRecord
from resonance.model.naming import MemberKeys
from resonance.model.retention import Appended, Retention, append, needs_base
from resonance.model.state import Delta, State, advance, diff, digest
from resonance.sealing import proof_of, seal_base, seal_delta
from resonance.store.keyspace import Exists, FieldCount, FieldIs, Guard, HashIs, Keyspace, ListCount, Write
from resonance.store.live import INLINE_BYTES, LiveWrites, change_live, expiring, hset, replace_live
from resonance.store.member import Member, Seen, load

DELTA_BYTES = 1024 * 1024
"""The largest change that goes on top of the live state in one script; it costs the server about 5 ms."""
_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class Base:
    """The state that a writer knows to be head, and its digest."""

    state: State
    digest: str


@dataclass(frozen=True, slots=True)
class Change:
    """A captured state, and how it differs from ``base``; both None when the writer knows nothing."""

    after: State
    digest: str
    base: Base | None
    delta: Delta | None
    size: int
    """``after.size()``, which costs the size and is asked for more than once."""
    packed: Future[bytes] | None = field(default=None, compare=False)
    """The whole state as a blob, being sealed in another thread since the capture began; None: seal it when needed."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The snapshot stands. ``evicted_tips`` had to go to make room."""

    seen: Seen
    manifest: Manifest
    evicted_tips: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changed; ``seen`` is fresh."""

    why: Refusal
    seen: Seen


def change_from(base: Base | None, after: State) -> Change:
    """What a capture changes; computes the digest at the cost of the change where the one before is known."""
    if base is None:
        return Change(after, digest(after), None, None, after.size())
    delta = diff(base.state, after)
    return Change(after, advance(base.digest, base.state, delta), base, delta, after.size())


@dataclass(frozen=True, slots=True)
class Offer:
    """One capture on its way: what it asks, what it changes, and its manifest without chain, sizes and epoch."""

    request: CommitRequest
    change: Change
    draft: Manifest
    limits: Retention


def commit(keyspace: Keyspace, member: Member, seen: Seen, offer: Offer) -> Saved | Refused:
    """Append one capture, or say why not.

    ``seen`` may be old: a refused guard reads again and decides again. Raises store errors; after ``StoreUnreachable``
    the commit may stand, and the same request tells (``Duplicate``).
    """
    fresh = False
    for _ in range(_ATTEMPTS):
        decision = decide_commit(seen.record, seen.slot, offer.request)
        if isinstance(decision, Append):
            _refuse_beginning(seen.record, offer.request)
            plan = _staged(_Attempt(keyspace, member, seen, decision, offer))
            if keyspace.apply(plan.guards, plan.writes) is not None:
                return Saved(plan.after, plan.manifest, plan.appended.evicted_tips)
        elif fresh:
            return Refused(decision.why, seen)
        known, seen, fresh = seen, load(keyspace, member), True
        if seen.raw_head == known.raw_head and seen.record.head is not None:
            seen, offer = _reminded(known, seen), replace(offer, change=replace(offer.change, base=None, delta=None))
    raise StoreBusy(f"{member.keys.head} changed {_ATTEMPTS} times while committing. It will be tried again.")


def _refuse_beginning(record: MemberRecord, request: CommitRequest) -> None:
    """A process that descends from nothing must not begin anew where records stood that nobody can read now."""
    if record.head is None and record.damage and request.parent is None:
        remedy = "Nothing was written. Restore that key, or delete all keys of this member to begin anew"
        raise StoreDamaged(f"{record.damage[0]}. {remedy}.")


def _reminded(known: Seen, seen: Seen) -> Seen:
    """What stands, where the head is as we know it and still a guard refused: something beside the head was lost.

    The lists are written anew from what we remember, and the state goes along whole.
    """
    damage = seen.record.damage or ("what stands beside the head is not what was saved",)
    return replace(seen, record=replace(known.record, damage=damage))


@dataclass(frozen=True, slots=True)
class _Plan:
    guards: list[Guard]
    writes: list[Write]
    manifest: Manifest
    appended: Appended
    after: Seen


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try: what was seen, and what was decided from it."""

    keyspace: Keyspace
    member: Member
    seen: Seen
    decision: Append
    offer: Offer


@dataclass(frozen=True, slots=True)
class _Blob:
    """A sealed blob and the manifest that it continues, None for a base."""

    sealed: bytes
    onto: Manifest | None


def _staged(attempt: _Attempt) -> _Plan:
    """Decide what is written, stage what is large, and plan the script.

    The readable hashes go along where that is cheap: by what changed if they show the head, or whole if the state is
    small. Else they follow after the acknowledgement (:func:`settle`).
    """
    change, keys = attempt.offer.change, attempt.member.keys
    head = attempt.seen.record.head
    small = change.size <= INLINE_BYTES
    if head is not None and change.base is not None and change.delta is not None and _fits(attempt, head):
        onto = None if needs_base(head.manifest) else head.manifest
        blob = _Blob(_base(change) if onto is None else seal_delta(change.base.state, change.delta), onto)
        if head.live == head.seq:
            return _plan(attempt, change_live(keys, change.base.state, change.delta), blob)
    else:
        blob = _Blob(_base(change), None)
    if small:
        return _plan(attempt, replace_live(keys, attempt.seen.record.kinds, change.after, ""), blob)
    return _plan(attempt, None, blob)


def _base(change: Change) -> bytes:
    return change.packed.result() if change.packed is not None else seal_base(change.after)


def _fits(attempt: _Attempt, head: Head) -> bool:
    """Changes go on top of the live state only if that is the very state which the writer compared with."""
    change = attempt.offer.change
    if change.base is None or change.delta is None or attempt.decision.tip:
        return False
    size = change.delta.size()
    same = head.manifest.digest == change.base.digest
    return same and size <= DELTA_BYTES and size * 2 <= max(change.size, 4096)


def _plan(attempt: _Attempt, live: LiveWrites | None, blob: _Blob) -> _Plan:
    """Everything that one append writes; without ``live`` the readable hashes stay as they are."""
    keys, seen, decision = attempt.member.keys, attempt.seen, attempt.decision
    manifest = _manifest(attempt, blob)
    old = seen.record.head
    showing = manifest.seq if live is not None else old.live if old is not None else 0
    rev = old.rev if old is not None else 0
    head = Head(decision.epoch, manifest.writer, manifest, _still_accepted(old, manifest), rev, showing)
    appended = append(seen.record, head, tip=decision.tip, limits=attempt.offer.limits)
    head = replace(head, kept=len(appended.record.kept))
    after = replace(appended.record, head=head)
    name = keys.base(manifest.seq) if blob.onto is None else keys.delta(manifest.seq)
    blob_writes, staged = _store_blob(attempt, name, blob.sealed)
    fields = head.to_fields()
    guards: list[Guard] = [HashIs(keys.head, seen.raw_head), *(Exists(stage) for stage in staged)]
    guards += _beside(keys, seen.record, live, blob)
    writes: list[Write] = [*blob_writes, *(live.writes if live is not None else ())]
    writes += [("DEL", keys.head), *hset(keys.head, fields.items())]
    writes += _listed_anew(keys, after) if seen.record.damage else _listed(keys, seen.record, after)
    writes += [("UNLINK", keys.delta(seq) if kind == "delta" else keys.base(seq)) for kind, seq in appended.unneeded]
    slot, raw_slot = seen.slot, seen.raw_slot
    workload, member = attempt.member.workload, attempt.member.name
    if workload is not None and (old is None or decision.epoch > old.epoch or decision.slot is not None):
        guards.append(FieldIs(workload.slots, member, seen.raw_slot))
    if decision.slot is not None and workload is not None:
        slot, text = decision.slot, decision.slot.to_json()
        writes.append(("HSET", workload.slots, member, text))
        raw_slot = text.encode()
    raw_head = {each.encode(): value.encode() for each, value in fields.items()}
    return _Plan(guards, writes, manifest, appended, Seen(after, raw_head, slot, raw_slot))


def _beside(keys: MemberKeys, record: MemberRecord, live: LiveWrites | None, blob: _Blob) -> Iterator[Guard]:
    """What the head does not say but an append goes on from: the lists, the blobs of the chain, the readable hashes."""
    if not record.damage:
        yield ListCount(keys.snapshots, len(record.recent))
        yield FieldCount(keys.kept, len(record.kept))
    if blob.onto is not None:
        base, *deltas = blob.onto.chain
        yield Exists(keys.base(base))
        yield from (Exists(keys.delta(seq)) for seq in deltas)
    if record.head is not None and live is not None and live.onto:
        yield from (FieldCount(keys.live(kind), count) for kind, count in record.head.manifest.counts.items())


def _listed(keys: MemberKeys, before: MemberRecord, after: MemberRecord) -> Iterator[Write]:
    yield ("LPUSH", keys.snapshots, after.recent[0].to_json())
    yield ("LTRIM", keys.snapshots, 0, len(after.recent) - 1)
    yield from _kept_writes(keys, before, after)


def _listed_anew(keys: MemberKeys, after: MemberRecord) -> Iterator[Write]:
    """Everything that is known, where what stands is damaged."""
    yield ("DEL", keys.snapshots)
    yield from (("LPUSH", keys.snapshots, each.to_json()) for each in reversed(after.recent))
    yield ("DEL", keys.kept)
    yield from hset(keys.kept, ((str(seq), each.to_json()) for seq, each in after.kept.items()))


def _still_accepted(old: Head | None, manifest: Manifest) -> str | None:
    """A person's permission waits for the process it names; a commit of another one in between does not use it up."""
    return old.accepted if old is not None and old.accepted != manifest.incarnation else None


def _store_blob(attempt: _Attempt, name: str, blob: bytes) -> tuple[list[Write], tuple[str, ...]]:
    """(guarded writes, staged keys) that put a blob at ``name``."""
    if len(blob) <= INLINE_BYTES:
        return [("SET", name, blob)], ()
    stage = attempt.member.keys.stage(attempt.offer.request.commit, "blob")
    pieces = range(0, len(blob), INLINE_BYTES)
    filling: list[Write] = [("SETRANGE", stage, start, blob[start : start + INLINE_BYTES]) for start in pieces]
    attempt.keyspace.stage(list(expiring(stage, filling)))
    return [("RENAME", stage, name), ("PERSIST", name)], (stage,)


def _manifest(attempt: _Attempt, blob: _Blob) -> Manifest:
    offer, onto, size = attempt.offer, blob.onto, len(blob.sealed)
    return replace(
        offer.draft,
        epoch=attempt.decision.epoch,
        stored_bytes=size,
        chain=(*(onto.chain if onto is not None else ()), offer.draft.seq),
        proof=proof_of(blob.sealed),
        base_bytes=onto.base_bytes if onto is not None else size,
        deltas_bytes=onto.deltas_bytes + size if onto is not None else 0,
        state_bytes=offer.change.size,
    )


def _kept_writes(keys: MemberKeys, before: MemberRecord, after: MemberRecord) -> Iterator[Write]:
    for seq, each in after.kept.items():
        if before.kept.get(seq) != each:
            yield ("HSET", keys.kept, str(seq), each.to_json())
    for seq in before.kept:
        if seq not in after.kept:
            yield ("HDEL", keys.kept, str(seq))


def settle(keyspace: Keyspace, member: Member, seen: Seen, after: State) -> Seen:
    """Let the readable hashes show the head, whose state is ``after``. Safe to repeat or to leave out.

    Raises store errors. Nothing is written when they show it already, or when the head has moved on meanwhile.
    """
    head = seen.record.head
    if head is None or head.live == head.seq:
        return seen
    live = replace_live(member.keys, seen.record.kinds, after, head.commit)
    keyspace.stage(live.staging)
    fields = replace(head, live=head.seq).to_fields()
    guards: list[Guard] = [HashIs(member.keys.head, seen.raw_head), *(Exists(stage) for stage in live.staged)]
    if keyspace.apply(guards, [*live.writes, *hset(member.keys.head, fields.items())]) is None:
        return seen
    raw_head = {each.encode(): value.encode() for each, value in fields.items()}
    return replace(seen, record=replace(seen.record, head=replace(head, live=head.seq)), raw_head=raw_head)
