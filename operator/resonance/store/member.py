"""Where one member lives, and one consistent read of its small records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from resonance.model.claim import SlotRecord
from resonance.model.errors import StoreDamaged
from resonance.model.manifest import Head, Manifest, MemberRecord, mended
from resonance.model.naming import MemberKeys, WorkloadKeys
from resonance.store.keyspace import Field, Fields, Hash, Items, Keyspace, Query

T = TypeVar("T")


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
    """Read head, manifests, kept ones and the slot record, as of one instant.

    Damaged records are named in ``record.damage`` and made up for where the others allow it. Raises store errors.
    """
    keys = member.keys
    queries: list[Query] = [Hash(keys.head), Items(keys.snapshots), Hash(keys.kept)]
    if member.workload is not None:
        queries.append(Field(member.workload.slots, member.name))
    seen = keyspace.read(queries)
    damage: list[str] = []
    raw_head = _noting(damage, lambda: seen.hash(0)) or {}
    head = _noting(damage, lambda: Head.from_fields(raw_head, where=keys.head))
    listed = _noting(damage, lambda: seen.items(1)) or []
    recent = [_noting(damage, partial(Manifest.from_json, text, where=keys.snapshots)) for text in listed]
    beside = _noting(damage, lambda: seen.hash(2)) or {}
    kept = [_noting(damage, partial(Manifest.from_json, text, where=keys.kept)) for text in beside.values()]
    raw_slot = seen.text(3) if member.workload is not None else None
    slot = SlotRecord.from_json(member.name, raw_slot) if raw_slot is not None else None
    record = MemberRecord(
        head,
        tuple(each for each in recent if each is not None),
        {each.seq: each for each in kept if each is not None},
        tuple(dict.fromkeys(damage)),
    )
    return Seen(mended(record, keys), raw_head, slot, raw_slot)


def _noting(damage: list[str], read: Callable[[], T]) -> T | None:
    """What ``read`` gives; None, and a note, where a stored record is damaged."""
    try:
        return read()
    except StoreDamaged as error:
        damage.append(str(error))
        return None
