"""Rules taken out: what an earlier draft did in the place of one of the product's decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from resonance.model.claim import (
    Claimant,
    Decision,
    Hold,
    Phase,
    Reserve,
    SlotRecord,
    Slots,
    Take,
    Wait,
    WaitReason,
    decide_claim,
    decide_release,
)
from resonance.model.commit import Append, CommitRequest, Refusal, Refuse, decide_commit, line_of
from resonance.model.manifest import Head, MemberRecord
from resonance.model.naming import workload_keys
from tests.protocol.world import Kube, Pod, Stage, Store

# ------------------------------------------------------------------------------------------------- lineage, taken out


def none_is_always_suspect(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """Not asked: whether this very process founded the head's line."""
    if seen.head is not None and request.line == request.incarnation and seen.head.accepted != request.incarnation:
        return Refuse(Refusal.QUARANTINED)
    return decide_commit(seen, slot, request)


def owner_is_trusted(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """The head's own pod is let in whatever its process says."""
    if seen.head is not None and seen.head.owner == request.writer:
        request = replace(request, line=seen.head.manifest.line)
    return decide_commit(seen, slot, request)


def line_is_not_checked(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """The capture was approved when it was taken; the commit only looks at the fence."""
    head = seen.head
    if head is not None and head.commit != request.commit:
        base = {"base_seq": head.seq, "seq": max(request.seq, head.seq + 1)}
        request = replace(request, line=head.manifest.line, **base)  # type: ignore[arg-type]
    return decide_commit(seen, slot, request)


def any_file_is_a_proof(proof: object, head: Head | None, nonce: str) -> str:
    """The proof says only that *a* file was loaded, not of which line."""
    restored = getattr(proof, "restored_from", None)
    if head is not None and restored is not None:
        return head.manifest.line
    return line_of(proof, head, nonce)  # type: ignore[arg-type]


def every_capture_touches_the_file(known: MemberRecord, line: str, incarnation: str) -> bool:
    return True


def acceptance_lets_anyone_in(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """``accept`` is a flag on the member."""
    if seen.head is not None and seen.head.accepted is not None:
        seen = replace(seen, head=replace(seen.head, accepted=request.incarnation))
    return decide_commit(seen, slot, request)


def acceptance_stays(before: Head | None) -> str | None:
    return before.accepted if before is not None else None


# ------------------------------------------------------------------------------------------------- commits, taken out


def accepted_commit_keeps_no_tip(
    seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest
) -> Append | Refuse:
    done = decide_commit(seen, slot, request)
    if isinstance(done, Append) and seen.head is not None and seen.head.accepted is not None:
        return replace(done, tip=False)
    return done


def duplicate_by_seq(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """The next seq after the writer's base stands already, so this must be the same commit."""
    head = seen.head
    ours = head is not None and (head.epoch, head.owner) == (request.epoch, request.writer)
    if ours and head is not None and head.seq > request.base_seq:
        return Refuse(Refusal.DUPLICATE)
    return decide_commit(seen, slot, request)


def fence_by_equality(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    if seen.head is not None and request.epoch != seen.head.epoch:
        return Refuse(Refusal.FENCED)
    return decide_commit(seen, slot, request)


def fence_without_owner(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    if seen.head is not None and request.epoch == seen.head.epoch:
        done = decide_commit(seen, slot, replace(request, writer=seen.head.owner))
        return replace(done, slot=None) if isinstance(done, Append) else done
    return decide_commit(seen, slot, request)


def reservation_stays(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """A commit leaves another's reservation as it is, whatever its epoch."""
    done = decide_commit(seen, slot, request)
    after = slot.next if slot is not None else None
    if isinstance(done, Append) and done.slot is not None and after is not None and after.uid != request.writer:
        return replace(done, slot=replace(done.slot, next=after))
    return done


# -------------------------------------------------------------------------------------------------- claims, taken out


def claim_forgets(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """A claim that does not look whether this pod has a slot already."""
    done = decide_claim(slots, replace(who, uid=f"{who.uid} again"), wanted=wanted, head_epochs=head_epochs)
    return _in_the_name_of(who, done)


def _in_the_name_of(who: Claimant, done: Decision) -> Decision:
    if isinstance(done, Take):
        return Take(replace(done.record, holder=who.uid))
    if isinstance(done, Reserve) and done.record.next is not None:
        return Reserve(replace(done.record, next=replace(done.record.next, uid=who.uid)))
    return done


def no_second_claim(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """A running pod never claims again."""
    if who.phase is Phase.RUNNING and who.previous is not None:
        return Wait(WaitReason.SUPERSEDED)
    return decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)


def founds_whenever_there_is_room(
    slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]
) -> Decision:
    """A superseded pod founds a new member although a parked one waits for the roll-out's next newcomer."""
    if who.phase is Phase.RUNNING and who.previous is not None:
        alike = {name: replace(each, template=who.template) for name, each in slots.items()}
        return decide_claim(alike, who, wanted=wanted, head_epochs=head_epochs)
    return decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)


def lost_record_is_forgotten(
    slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]
) -> Decision:
    """A running pod whose record is missing takes any name without a record."""
    if who.phase is Phase.RUNNING and who.previous not in slots:
        who = replace(who, previous=None)
        head_epochs = {}
    return decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)


def founds_over_a_head(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """Whether a name without a record has a head is not asked."""
    heads = {name: epoch for name, epoch in head_epochs.items() if name in slots}
    return decide_claim(slots, who, wanted=wanted, head_epochs=heads)


def last_released_first(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """Whether a parked slot ever had a snapshot is not asked."""
    alike = {name: replace(each, committed=True) for name, each in slots.items()}
    done = decide_claim(alike, who, wanted=wanted, head_epochs=head_epochs)
    if isinstance(done, Take):
        before = slots.get(done.record.member)
        return Take(replace(done.record, committed=before is not None and before.committed))
    return decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)


def parked_first(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """A parked slot is taken whenever there is one, however many are held."""
    if wanted is not None and any(each.holder is None for each in slots.values()):
        wanted = len(slots)
    return decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)


def takes_at_once(slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]) -> Decision:
    """A newcomer becomes the holder in its init hook."""
    done = decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)
    after = done.record.next if isinstance(done, Reserve) else None
    if isinstance(done, Reserve) and after is not None:
        mine = replace(done.record, holder=who.uid, pod=who.pod, template=who.template, epoch=after.epoch, next=None)
        return Take(mine)
    return done


def takes_at_once_and_for_all(
    slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]
) -> Decision:
    if who.phase is Phase.RUNNING and who.previous is not None:
        return Wait(WaitReason.SUPERSEDED)
    return takes_at_once(slots, who, wanted=wanted, head_epochs=head_epochs)


def release_whoever_holds(slots: Slots, member: str, uid: str) -> SlotRecord | None:
    """A release that does not compare: the member is parked, whoever has it by now."""
    holder = slots[member].holder if member in slots else None
    return decide_release(slots, member, holder if holder is not None else uid)


def gone_with_its_object(pod: Pod) -> bool:
    return pod.kube is Kube.GONE or pod.stage is Stage.ENDED


def leases_run_out(store: Store) -> Slots:
    """A record whose lease was not renewed looks parked."""
    return {
        name: replace(each, holder=None) if name in store.lease_over else each for name, each in store.slots.items()
    }


def one_key_space(pod: Pod) -> str:
    return workload_keys("resonance", "default", "web", "all").root


def record_is_left_as_healed(
    slots: Slots, who: Claimant, *, wanted: int | None, head_epochs: Mapping[str, int]
) -> Decision:
    """A holder whose record describes another pod leaves it so."""
    for record in slots.values():
        if record.holder == who.uid:
            return Hold(record, record.epoch, reserved=False)
    return decide_claim(slots, who, wanted=wanted, head_epochs=head_epochs)
