"""Where one member lives, and one consistent read of its small records."""

from __future__ import annotations

from dataclasses import dataclass

from resonance.model.claim import SlotRecord
from resonance.model.manifest import Head, Manifest, MemberRecord
from resonance.model.naming import MemberKeys, WorkloadKeys
from resonance.store.keyspace import Field, Fields, Hash, Items, Keyspace, Query


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member lives. ``workload`` is None in the library, which has no claims."""

    name: str
    keys: MemberKeys
    workload: WorkloadKeys | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One consistent read of a member's records; the raw parts are what guards compare."""

    record: MemberRecord
    raw_head: Fields
    slot: SlotRecord | None
    raw_slot: bytes | None


def load(keyspace: Keyspace, member: Member) -> Seen:
    """Read head, manifests, kept ones and the slot record, as of one instant."""
    keys = member.keys
    queries: list[Query] = [Hash(keys.head), Items(keys.snapshots), Hash(keys.kept)]
    if member.workload is not None:
        queries.append(Field(member.workload.slots, member.name))
    seen = keyspace.read(queries)
    raw_head = seen.hash(0)
    head = Head.from_fields(raw_head, where=keys.head)
    recent = tuple(Manifest.from_json(text, where=keys.snapshots) for text in seen.items(1))
    kept = {int(seq): Manifest.from_json(text, where=keys.kept) for seq, text in seen.hash(2).items()}
    raw_slot = seen.text(3) if member.workload is not None else None
    slot = SlotRecord.from_json(member.name, raw_slot) if raw_slot is not None else None
    return Seen(MemberRecord(head, recent, kept), raw_head, slot, raw_slot)
