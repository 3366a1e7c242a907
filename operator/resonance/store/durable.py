"""Having a head confirmed by a replica or the disk, and writing the level that it reached into its manifest.

The mark is a guarded write after the snapshot, see :mod:`resonance.model.durability` for why that is sound. It costs an
exchange of its own, and only where a level above ``Memory`` was asked for and reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from resonance.model.durability import Durability
from resonance.model.errors import StoreError
from resonance.model.manifest import Head
from resonance.store.keyspace import HashIs, Keyspace, Write
from resonance.store.live import hset
from resonance.store.member import Member, Seen

CONFIRM_MS = 500
"""How long a replica or the disk is waited for."""


def confirm(keyspace: Keyspace, member: Member, seen: Seen, level: Durability) -> tuple[Seen, Durability]:
    """Have the head that this thread has just written confirmed; (the records with the mark, the level reached).

    Raises nothing: the snapshot stands whatever happens here, and what is not known to be reached is not claimed.
    """
    reached = keyspace.confirm(level, CONFIRM_MS)
    return (seen if reached is Durability.MEMORY else _marked(keyspace, member, seen, reached)), reached


def confirm_again(keyspace: Keyspace, member: Member, seen: Seen, level: Durability) -> tuple[Seen, Durability]:
    """The same for a head that was written earlier: it is written once more as it is, so that the answer covers it."""
    head = seen.record.head
    if head is None:
        return seen, Durability.MEMORY
    if level is Durability.MEMORY or head.manifest.durability == level:
        return seen, Durability(head.manifest.durability)
    if _write(keyspace, member, seen, head, ()) is None:
        return seen, Durability.MEMORY
    return confirm(keyspace, member, seen, level)


def _marked(keyspace: Keyspace, member: Member, seen: Seen, reached: Durability) -> Seen:
    head = seen.record.head
    if head is None:
        return seen
    marked = replace(head, manifest=replace(head.manifest, durability=str(reached)))
    recent = seen.record.recent
    listed: list[Write] = []
    if recent and recent[0].commit == head.commit:
        recent = (marked.manifest, *recent[1:])
        name = member.keys.snapshots
        listed = [("LTRIM", name, 1, len(recent) - 1), ("LPUSH", name, marked.manifest.to_json())]
    raw_head = _write(keyspace, member, seen, marked, listed)
    if raw_head is None:  # somebody pinned or took over meanwhile, or no answer: the claim stays smaller
        return seen
    return replace(seen, record=replace(seen.record, head=marked, recent=recent), raw_head=raw_head)


def _write(
    keyspace: Keyspace, member: Member, seen: Seen, head: Head, more: Sequence[Write]
) -> dict[bytes, bytes] | None:
    fields = head.to_fields()
    guard = HashIs(member.keys.head, seen.raw_head)
    try:
        if keyspace.apply([guard], [*hset(member.keys.head, fields.items()), *more]) is None:
            return None
    except StoreError:
        return None
    return {name.encode(): value.encode() for name, value in fields.items()}
