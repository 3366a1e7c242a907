"""The member's snapshots as people see them: list, pin, unpin, and the one exception that a person may grant.

Every change here is guarded by the head as it was seen and makes the head's ``rev`` grow, so that a writer which
remembers the member's records notices before it drops what has just been pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from resonance.model.errors import InvalidInput, StoreBusy, StoreDamaged
from resonance.model.manifest import Head, Manifest, MemberRecord, keep
from resonance.model.retention import PIN, blobs, without
from resonance.store.keyspace import HashIs, Keyspace, Write
from resonance.store.live import hset
from resonance.store.member import Member, Seen, load

_ATTEMPTS = 16


def snapshots(keyspace: Keyspace, member: Member) -> list[Manifest]:
    """Every snapshot that can be restored, newest first, with why it is kept beyond the recent ones."""
    return list(load(keyspace, member).record.all())


def pin(keyspace: Keyspace, member: Member, seq: int) -> Manifest:
    """Keep this snapshot until it is unpinned. Safe to repeat. Raises :class:`InvalidInput` when it is not kept now."""

    def pinned(seen: Seen) -> tuple[Manifest, int, list[Write]]:
        marked = keep(_find(seen.record, seq), PIN)
        return marked, len({*seen.record.kept, seq}), [("HSET", member.keys.kept, str(seq), marked.to_json())]

    return _change(keyspace, member, pinned)


def unpin(keyspace: Keyspace, member: Member, seq: int) -> Manifest:
    """Take a pin away: the snapshot and what only it needed go unless something else keeps them. Safe to repeat."""

    def unpinned(seen: Seen) -> tuple[Manifest, int, list[Write]]:
        marked = without(_find(seen.record, seq), PIN)
        kept = {**seen.record.kept, seq: marked}
        if not marked.kept_as:
            del kept[seq]
        after = MemberRecord(seen.record.head, seen.record.recent, kept)
        gone = sorted(blobs(seen.record) - blobs(after))
        drop: list[Write] = [
            ("UNLINK", member.keys.delta(each) if kind == "delta" else member.keys.base(each)) for kind, each in gone
        ]
        write: Write = (
            ("HSET", member.keys.kept, str(seq), marked.to_json())
            if marked.kept_as
            else ("HDEL", member.keys.kept, str(seq))
        )
        return marked, len(kept), [write, *drop]

    return _change(keyspace, member, unpinned)


def accept(keyspace: Keyspace, member: Member, incarnation: str) -> Head:
    """Let this one incarnation replace the head although its line is unknown; the old head stays as a tip. Works once.

    Raises :class:`InvalidInput` when there is no head, which needs no permission.
    """

    for _ in range(_ATTEMPTS):
        seen = load(keyspace, member)
        if seen.record.head is None:
            raise InvalidInput("member", member.name, "it has no snapshot, so its first process needs no permission.")
        head = replace(seen.record.head, accepted=incarnation)
        if _apply(keyspace, member, seen, head, len(seen.record.kept), []):
            return head
    raise _contended(member)


def _change(
    keyspace: Keyspace, member: Member, decide: Callable[[Seen], tuple[Manifest, int, list[Write]]]
) -> Manifest:
    for _ in range(_ATTEMPTS):
        seen = load(keyspace, member)
        if seen.record.head is None:
            raise InvalidInput("member", member.name, "it has no snapshots yet.")
        _refuse_damaged(seen)
        manifest, kept, writes = decide(seen)
        if _apply(keyspace, member, seen, seen.record.head, kept, writes):
            return manifest
    raise _contended(member)


def _apply(keyspace: Keyspace, member: Member, seen: Seen, head: Head, kept: int, writes: list[Write]) -> bool:
    fields = replace(head, rev=head.rev + 1, kept=kept).to_fields()
    moved: list[Write] = [("DEL", member.keys.head), *hset(member.keys.head, fields.items())]
    return keyspace.apply([HashIs(member.keys.head, seen.raw_head)], [*moved, *writes]) is not None


def _find(record: MemberRecord, seq: int) -> Manifest:
    if seq in record.kept:
        return record.kept[seq]
    found = next((each for each in record.recent if each.seq == seq), None)
    if found is None:
        raise InvalidInput("seq", seq, "no kept snapshot has this number. List the snapshots, then name one of them.")
    return found


def _refuse_damaged(seen: Seen) -> None:
    """What is kept is only changed where all of it is known."""
    if seen.record.damage:
        raise StoreDamaged(f"{seen.record.damage[0]}. The next commit of this member writes its records anew.")


def _contended(member: Member) -> StoreBusy:
    return StoreBusy(f"{member.keys.head} changed {_ATTEMPTS} times. Try again.")
