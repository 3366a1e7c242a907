"""One workload's small records: claims, the policy as the operator wrote it, and who waits.

Every change is read → pure decision (model.claim) → guarded apply; a refused apply reads and decides again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from resonance.model.claim import (
    Claimant,
    Hold,
    Reserve,
    SlotRecord,
    Take,
    Wait,
    decide_answer,
    decide_claim,
    decide_release,
)
from resonance.model.errors import StoreBusy, StoreDamaged
from resonance.model.naming import WorkloadKeys, slot_member
from resonance.model.record import read_part, read_record
from resonance.store.keyspace import Field, Guard, Hash, HashIs, Keyspace, Reading, Text

_ATTEMPTS = 32


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """What the operator tells the agents of one workload. Written by the operator only.

    ``every_ms`` is the interval; ``wanted`` the replicas, None where the identity needs none; ``live`` the uids of
    pods that are live and wanted; ``known`` the newest seq that the operator ever saw, by member; ``deleted`` is the
    tombstone.
    """

    cluster: str
    policy_uid: str
    generation: int
    every_ms: int
    suspend: bool = False
    wanted: int | None = None
    live: tuple[str, ...] = ()
    deleted: bool = False
    known: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"v": 1, **asdict(self)}, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | None, *, where: str) -> PolicyRecord | None:
        """None when there is no record. Raises :class:`StoreDamaged`."""
        if text is None:
            return None
        return read_record(text, cls, where=where, what="a policy record", version=1)


@dataclass(frozen=True, slots=True)
class WorkloadRecord:
    """One consistent read of a workload. ``raw_slots`` is what a guard compares."""

    slots: Mapping[str, SlotRecord]
    raw_slots: Mapping[bytes, bytes]
    policy: PolicyRecord | None
    waiting: Mapping[str, Mapping[str, Any]]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pod may write: this member, with this epoch. ``reserved``: the epoch moves at our first commit."""

    member: str
    epoch: int
    record: SlotRecord
    reserved: bool = False
    answered: bool = False


def read_workload(keyspace: Keyspace, keys: WorkloadKeys) -> WorkloadRecord:
    """Read slots, policy and who waits, as of one instant."""
    seen = keyspace.read([Hash(keys.slots), Text(keys.policy), Hash(keys.waiting)])
    raw = seen.hash(0)
    slots = {name: SlotRecord.from_json(name, text) for name, text in named(raw, keys.slots).items()}
    policy = PolicyRecord.from_json(seen.text(1), where=keys.policy)
    waiting = dict(_waiting(seen, keys.waiting))
    return WorkloadRecord(slots, raw, policy, waiting, seen.at_ms)


def named(raw: Mapping[bytes, bytes], where: str) -> dict[str, bytes]:
    """A hash whose fields are names. Raises :class:`StoreDamaged`."""
    try:
        return {name.decode(): text for name, text in raw.items()}
    except UnicodeDecodeError as error:
        raise StoreDamaged(f"{where}: a field's name is not UTF-8") from error


def _waiting(seen: Reading, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Who waits; an entry that cannot be read tells nobody anything, and must not keep others from their claims."""
    try:
        raw = seen.hash(2)
    except StoreDamaged:
        return
    for uid, text in raw.items():
        with contextlib.suppress(StoreDamaged, UnicodeDecodeError):
            yield uid.decode(), read_part(text, dict[str, Any], where=where, what="an entry", given={})


def claim(keyspace: Keyspace, keys: WorkloadKeys, who: Claimant) -> Claim | Wait:
    """Claim a member for a pod, once and for all: calling again returns the same. Raises store errors.

    The claimant's ``listed`` is taken from the policy record.
    """
    for _ in range(_ATTEMPTS):
        seen = read_workload(keyspace, keys)
        asked = replace(who, listed=seen.policy is not None and who.uid in seen.policy.live)
        wanted = seen.policy.wanted if seen.policy is not None else None
        decision = decide_claim(seen.slots, asked, wanted=wanted, head_epochs=_head_epochs(keyspace, keys, seen, who))
        if isinstance(decision, Wait):
            return decision
        if isinstance(decision, Hold):
            return Claim(decision.record.member, decision.epoch, decision.record, decision.reserved, decision.answered)
        if _write_slot(keyspace, keys, seen, decision.record):
            return _claim_of(decision)
    raise StoreBusy(f"{keys.slots} changed {_ATTEMPTS} times while claiming. It will be tried again.")


def _claim_of(decision: Take | Reserve) -> Claim:
    record = decision.record
    if isinstance(decision, Take):
        return Claim(record.member, record.epoch, record)
    return Claim(record.member, record.issued, record, reserved=True)


def _head_epochs(keyspace: Keyspace, keys: WorkloadKeys, seen: WorkloadRecord, who: Claimant) -> dict[str, int]:
    names = set(seen.slots) | ({who.member} if who.member else set())
    if who.member is None:  # a founding pod keeps away from heads whose record was lost, so look beyond the records
        wanted = seen.policy.wanted if seen.policy is not None else None
        names |= {slot_member(index) for index in range(len(seen.slots) + (wanted or 0) + 1)}
    ordered = sorted(names)
    heads = keyspace.read([Hash(keys.member(name).head) for name in ordered])
    found = {name: heads.hash(index).get(b"epoch") for index, name in enumerate(ordered)}
    return {name: int(epoch) for name, epoch in found.items() if epoch is not None}


def _write_slot(keyspace: Keyspace, keys: WorkloadKeys, seen: WorkloadRecord, record: SlotRecord) -> bool:
    guard = _all_slots(keys, seen)
    return keyspace.apply([guard], [("HSET", keys.slots, record.member, record.to_json())]) is not None


def _all_slots(keys: WorkloadKeys, seen: WorkloadRecord) -> Guard:
    return HashIs(keys.slots, seen.raw_slots)


def release(keyspace: Keyspace, keys: WorkloadKeys, member: str, uid: str) -> bool:
    """Release what pod ``uid`` holds or reserved. False when there was nothing of it. Safe to repeat."""
    return _change(keyspace, keys, lambda slots: decide_release(slots, member, uid))


def answer(keyspace: Keyspace, keys: WorkloadKeys, member: str, holder: str) -> bool:
    """Tell a waiting newcomer that the holder has flushed for it. Safe to repeat."""

    def decide(slots: Mapping[str, SlotRecord]) -> SlotRecord | None:
        record = slots.get(member)
        return None if record is None else decide_answer(record, holder)

    return _change(keyspace, keys, decide)


def _change(
    keyspace: Keyspace, keys: WorkloadKeys, decide: Callable[[Mapping[str, SlotRecord]], SlotRecord | None]
) -> bool:
    for _ in range(_ATTEMPTS):
        seen = read_workload(keyspace, keys)
        record = decide(seen.slots)
        if record is None:
            return False
        if _write_slot(keyspace, keys, seen, record):
            return True
    raise StoreBusy(f"{keys.slots} changed {_ATTEMPTS} times. It will be tried again.")


def read_slot(keyspace: Keyspace, keys: WorkloadKeys, member: str) -> tuple[SlotRecord | None, PolicyRecord | None]:
    """One member's record and the policy, for the agent's poll: two small reads in one round trip."""
    seen = keyspace.read([Field(keys.slots, member), Text(keys.policy)])
    text = seen.text(0)
    record = SlotRecord.from_json(member, text) if text is not None else None
    return record, PolicyRecord.from_json(seen.text(1), where=keys.policy)


def write_policy(keyspace: Keyspace, keys: WorkloadKeys, record: PolicyRecord) -> None:
    """Write the operator's record. Raises store errors."""
    keyspace.apply([], [("SET", keys.policy, record.to_json())])


def say_waiting(keyspace: Keyspace, keys: WorkloadKeys, uid: str, pod: str, reason: str) -> None:
    """Say that a pod has no member to write, and why."""
    keyspace.apply([], [("HSET", keys.waiting, uid, json.dumps({"pod": pod, "reason": reason}))])


def stop_waiting(keyspace: Keyspace, keys: WorkloadKeys, uids: list[str]) -> None:
    """Forget waiting pods that started or are gone."""
    if uids:
        keyspace.apply([], [("HDEL", keys.waiting, *uids)])
