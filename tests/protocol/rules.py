"""The rules as the product has them, and each taken out: what an earlier draft did in its place.

``Rules()`` is the product: its own pure functions, and the conduct of the hosts around them that the world mirrors. The
functions below it replace one thing each; test_schedules.py says which schedule each of them lets through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from resonance.model.claim import (
    Claimant,
    Decision,
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
from resonance.model.commit import Append, CommitRequest, Refusal, Refuse, decide_commit, line_of, parent_of
from resonance.model.manifest import Head, MemberRecord
from resonance.model.naming import slot_member, workload_keys
from resonance.model.restore import decide_restore

from tests.protocol.world import Kube, Pod, Stage, Store, World


class EpochMoves(StrEnum):
    AT_FIRST_COMMIT = "at the first commit"
    IN_THE_CLAIM = "in the claim"
    IN_A_SECOND_STEP = "in a second step after the claim"


class AfterConflict(StrEnum):
    CAPTURE_AGAIN = "capture again"
    FORCE_THE_OLD = "force the old capture as a full save"


class Lineage(StrEnum):
    AT_THE_COMMIT = "checked at the commit"
    AT_THE_CAPTURE = "checked at the capture"


class Records(StrEnum):
    BEFORE_THE_STATE = "records are read before the state"
    AFTER_THE_STATE = "records are read after the state"


class Newcomer(StrEnum):
    WAITS_A_BOUND = "waits a bound for the answer, then restores"
    WAITS_FOR_EVER = "waits for the answer"


class EmptyStart(StrEnum):
    NEVER = "no bound ends in an empty start"
    AFTER_A_BOUND = "a claimant that waited long starts empty"


class Listing(StrEnum):
    BEFORE_THE_RELEASE = "a pod is taken off the list before its slot is released"
    WHENEVER = "the list follows when it follows"


class Leaving(StrEnum):
    SAVES_ASIDE = "a newcomer that ends before its first commit leaves the member to the holder"
    TAKES_OVER = "its last flush takes the member over"


class Released(StrEnum):
    IS_FINAL = "a released record is final"
    IS_REASSERTED = "its former holder writes itself back"


def suspect_never_touches_the_file(known: MemberRecord, line: str, incarnation: str) -> bool:
    """True if a capture may go to the restore file, as the writer's ``_is_suspect`` decides it."""
    return known.head is None or line in known.lines or known.head.accepted == incarnation


def gone_or_lost(pod: Pod) -> bool:
    """What the operator takes for gone: the object is gone, or is terminating on a node that nobody reaches."""
    return pod.kube in {Kube.GONE, Kube.LOST} or pod.stage is Stage.ENDED


def live_pods_are_listed(pod: Pod) -> bool:
    return pod.kube is Kube.LIVE


def every_record_counts(store: Store) -> Slots:
    return store.slots


def workload_root(pod: Pod) -> str:
    """One key space for each workload of a policy."""
    return workload_keys("resonance", "default", "web", f"Deployment.{pod.workload}").root


def acceptance_is_used_up(before: Head | None) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides."""

    claim: Callable[..., Decision] = decide_claim
    release: Callable[[Slots, str, str], SlotRecord | None] = decide_release
    commit: Callable[[MemberRecord, SlotRecord | None, CommitRequest], Append | Refuse] = decide_commit
    line_of: Callable[..., str] = line_of
    parent_of: Callable[..., str | None] = parent_of
    restore: Callable[..., object] = decide_restore
    file_takes: Callable[[MemberRecord, str, str], bool] = suspect_never_touches_the_file
    is_gone: Callable[[Pod], bool] = gone_or_lost
    is_listed: Callable[[Pod], bool] = live_pods_are_listed
    slots_seen: Callable[[Store], Slots] = every_record_counts
    key_of: Callable[[Pod], str] = workload_root
    acceptance_after: Callable[[Head | None], str | None] = acceptance_is_used_up
    epoch_moves: EpochMoves = EpochMoves.AT_FIRST_COMMIT
    after_conflict: AfterConflict = AfterConflict.CAPTURE_AGAIN
    lineage: Lineage = Lineage.AT_THE_COMMIT
    records: Records = Records.BEFORE_THE_STATE
    newcomer: Newcomer = Newcomer.WAITS_A_BOUND
    empty_start: EmptyStart = EmptyStart.NEVER
    released: Released = Released.IS_FINAL
    listing: Listing = Listing.BEFORE_THE_RELEASE
    leaving: Leaving = Leaving.SAVES_ASIDE


PRODUCT = Rules()

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
    if head is not None and (head.epoch, head.owner) == (request.epoch, request.writer):
        if head.seq > request.base_seq:
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
    if isinstance(done, Append) and done.slot is not None and slot is not None:
        if slot.next is not None and slot.next.uid != request.writer:
            return replace(done, slot=replace(done.slot, next=slot.next))
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


def newest_unused(slots: Slots) -> str:
    return next(name for name in map(slot_member, range(len(slots) + 1)) if name not in slots)
