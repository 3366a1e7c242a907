"""Who may write a member, as pure decisions over the records of one workload.

Every member, numbered slot or named pod, has one record in ``W:slots``. The argument, in the words of SCHEDULES that
broke earlier drafts (docs/protocol.md lists them):

- A claim returns what this pod already holds, so a lost reply changes nothing.
- Parked slots are given out only while fewer are held than wanted, those with a snapshot first and of these the one
  released last, so that a roll-out cannot park the newest state.
- A running pod that was superseded goes back to its own slot when that is free, and founds another only where that
  leaves no parked state to a roll-out.
- A newcomer at a full workload *reserves*: the holder stays the writer until the newcomer's first commit.
- Epochs are issued from ``issued``, which never goes back; the head's epoch moves at the first commit.
- A release names the uid that it releases. A released record is final: its former holder claims anew.
- No clock and no bound appears here; nothing ever ends in an empty start because time passed.

Deliberately not here: what a commit checks (commit.py) and how decisions are applied (store/).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from resonance.model.naming import slot_member
from resonance.model.record import read_part


class Identity(StrEnum):
    """How a pod is tied to a member."""

    POD_NAME = "PodName"
    SLOT = "Slot"
    NODE = "Node"


class Host(StrEnum):
    """Who captures and answers for a member."""

    AGENT = "agent"
    OPERATOR = "operator"


class Phase(StrEnum):
    """Whether the claiming pod's app has started."""

    STARTING = "starting"
    RUNNING = "running"


class WaitReason(StrEnum):
    """Why a claim has to wait; shown in the status."""

    WANTED_UNKNOWN = "WantedUnknown"
    ALL_SLOTS_HELD = "AllSlotsHeld"
    SUPERSEDED = "Superseded"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A newcomer that will take the record at its first commit. ``answered``: the holder has flushed for it."""

    uid: str
    pod: str
    template: str
    epoch: int
    host: Host = Host.AGENT
    answered: bool = False


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """One member's record. ``holder`` is a pod uid, None when parked; ``released`` orders parked records (0 = held).

    ``committed`` is set by the first commit: a record that committed but has no head means that something was lost.
    """

    member: str
    holder: str | None
    pod: str
    template: str
    epoch: int
    issued: int
    next: Reservation | None = None
    released: int = 0
    committed: bool = False
    host: Host = Host.AGENT

    def names(self, uid: str, epoch: int) -> bool:
        """True if this record lets pod ``uid`` write with ``epoch``."""
        if self.holder == uid and self.epoch == epoch:
            return True
        return self.next is not None and self.next.uid == uid and self.next.epoch == epoch

    def describes(self, who: Claimant) -> bool:
        """True if this record, which names the claimant as its holder, is right about it."""
        return (self.pod, self.template, self.host) == (who.pod, who.template, who.host)

    def to_json(self) -> str:
        raw = asdict(self)
        del raw["member"]
        return json.dumps(raw, separators=(",", ":"))

    @classmethod
    def from_json(cls, member: str, text: bytes | str) -> SlotRecord:
        """Raises :class:`StoreDamaged` when the text is not a record."""
        return read_part(text, cls, where=f"slot {member}", what="a record", given={"member": member})


Slots = Mapping[str, SlotRecord]


@dataclass(frozen=True, slots=True)
class Claimant:
    """A pod that wants to write. ``member`` is its fixed member for PodName and Node, None for Slot.

    ``previous`` is what it wrote before, for a running pod that lost its member; ``listed`` says that the operator
    lists the pod as live and wanted, without which a running pod never claims.
    """

    uid: str
    pod: str
    template: str
    identity: Identity
    member: str | None = None
    host: Host = Host.AGENT
    phase: Phase = Phase.STARTING
    previous: str | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """The pod already has this member; nothing is written. ``reserved``: as the newcomer, not yet as the holder."""

    record: SlotRecord
    epoch: int
    reserved: bool
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Write this record: the pod holds the member now."""

    record: SlotRecord


@dataclass(frozen=True, slots=True)
class Reserve:
    """Write this record: the pod is next; the holder is asked to flush and stays the writer until our first commit."""

    record: SlotRecord


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to take now."""

    reason: WaitReason


Decision = Hold | Take | Reserve | Wait


def decide_claim(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """What one pod may have. ``wanted`` is the workload's replicas as the operator wrote them, None when it has not
    yet.

    ``head_epochs`` maps member → epoch of its head, for members that have one.
    """
    held = _held_by(slots, who)
    if held is not None:
        return held
    if who.phase is Phase.RUNNING and not who.listed:
        return Wait(WaitReason.SUPERSEDED)
    if who.member is not None:
        return Take(_taken(slots.get(who.member), who.member, who, head_epochs))
    if wanted is None:
        return Wait(WaitReason.WANTED_UNKNOWN)
    if who.phase is Phase.RUNNING:
        return _reclaim_slot(slots, who, wanted, head_epochs)
    return _claim_slot(slots, who, wanted, head_epochs)


def _held_by(slots: Slots, who: Claimant) -> Hold | Take | None:
    """What the pod has already. A record that a commit healed after a fail-over describes another pod: put it right."""
    for record in slots.values():
        if record.holder == who.uid:
            if record.describes(who):
                return Hold(record, record.epoch, reserved=False)
            return Take(replace(record, pod=who.pod, template=who.template, host=who.host))
    for record in slots.values():
        if record.next is not None and record.next.uid == who.uid:
            return Hold(record, record.next.epoch, reserved=True, answered=record.next.answered)
    return None


def _claim_slot(slots: Slots, who: Claimant, wanted: int, heads: Mapping[str, int]) -> Decision:
    held = [each for each in slots.values() if each.holder is not None]
    if len(held) < wanted:
        parked = [each for each in slots.values() if each.holder is None]
        if parked:
            newest = max(parked, key=lambda each: (each.committed, each.released, each.member))
            return Take(_taken(newest, newest.member, who, heads))
        return Take(_taken(None, _unused_member(slots), who, heads))
    others = [each for each in held if each.template != who.template and each.next is None]
    if not others:
        return Wait(WaitReason.ALL_SLOTS_HELD)
    return Reserve(_reserved(min(others, key=lambda each: each.member), who, heads))


def _reclaim_slot(slots: Slots, who: Claimant, wanted: int, heads: Mapping[str, int]) -> Decision:
    """A running pod carries a state of its own: back to its own slot, or found a new one; never take another's.

    Its own record may be missing after a fail-over, and so may that of a member which has a head: both are kept apart.
    While a roll-out is under way, a superseded pod founds none in the place of a parked one: the newcomers would take
    its fork, and the parked state would stay unused.
    """
    held = [each for each in slots.values() if each.holder is not None]
    if who.previous is not None:
        own = slots.get(who.previous)
        if own is None or own.holder is None:
            return Take(_taken(own, who.previous, who, heads))
        rolling_out = any(each.template != who.template for each in held)
        if rolling_out and any(each.holder is None and each.committed for each in slots.values()):
            return Wait(WaitReason.SUPERSEDED)
    if len(held) < wanted:
        return Take(_taken(None, _unused_member({**slots, **heads}), who, heads))
    return Wait(WaitReason.SUPERSEDED)


def _unused_member(used: Collection[str]) -> str:
    return next(name for name in map(slot_member, range(len(used) + 1)) if name not in used)


def _issue(record: SlotRecord | None, member: str, heads: Mapping[str, int]) -> int:
    return max(record.issued if record else 0, heads.get(member, 0)) + 1


def _taken(record: SlotRecord | None, member: str, who: Claimant, heads: Mapping[str, int]) -> SlotRecord:
    epoch = _issue(record, member, heads)
    committed = record.committed if record else False
    return SlotRecord(member, who.uid, who.pod, who.template, epoch, epoch, None, 0, committed, who.host)


def _reserved(record: SlotRecord, who: Claimant, heads: Mapping[str, int]) -> SlotRecord:
    epoch = _issue(record, record.member, heads)
    return replace(record, issued=epoch, next=Reservation(who.uid, who.pod, who.template, epoch, who.host))


def decide_release(slots: Slots, member: str, uid: str) -> SlotRecord | None:
    """The record after pod ``uid`` has gone, or None when there is nothing of it to release.

    A waiting newcomer inherits; a dead newcomer is cleared; anybody else's record is left alone.
    """
    record = slots.get(member)
    if record is None:
        return None
    after = record.next
    if after is not None and after.uid == uid:
        return replace(record, next=None)
    if record.holder != uid:
        return None
    if after is not None:
        return replace(
            record,
            holder=after.uid,
            pod=after.pod,
            template=after.template,
            epoch=after.epoch,
            host=after.host,
            next=None,
        )
    last = max((each.released for each in slots.values()), default=0)
    return replace(record, holder=None, released=last + 1)


def decide_answer(record: SlotRecord, holder: str) -> SlotRecord | None:
    """The record after its holder has flushed for the newcomer, or None when nobody waits for this holder."""
    if record.holder != holder or record.next is None or record.next.answered:
        return None
    return replace(record, next=replace(record.next, answered=True))
