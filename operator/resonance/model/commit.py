"""What a commit may do to a member, as one pure decision over its head, its lines and its slot record.

The order of the checks is the protocol:

1. *Fence.* A lower epoch, or the head's epoch with another owner, changes nothing. A higher epoch is installed, if the
   record names it or has lost it in a fail-over.
2. *Duplicate.* The same commit id as the head: our own earlier attempt, its reply was lost.
3. *Lineage.* When a head exists, a line that no kept manifest carries is put in quarantine, unless a person accepted
this
   very incarnation. Checked here, at the commit, and nowhere earlier, because a head can appear after the capture.
4. *Base.* The head moved since the writer last saw it: discard the capture and take another.
5. *Tip.* If the captured process does not descend from the head, the head is kept as a tip. Always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from resonance.model.claim import SlotRecord
from resonance.model.manifest import UNPROVEN, Head, MemberRecord


class Refusal(StrEnum):
    """Why a commit changed nothing."""

    FENCED = "Fenced"
    DUPLICATE = "Duplicate"
    QUARANTINED = "Quarantined"
    CONFLICT = "Conflict"
    NOT_HELD = "NotHeld"


@dataclass(frozen=True, slots=True)
class Proof:
    """What the app's headers said: who it is and what it loaded (None: it started with nothing)."""

    incarnation: str
    restored_from: str | None


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """One capture that wants to become head. ``base_seq`` is the head's seq as the writer knows it (0: none)."""

    writer: str
    epoch: int
    commit: str
    seq: int
    base_seq: int
    line: str
    incarnation: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class Append:
    """Go on: the request becomes head. ``tip``: the old head is kept as one. ``slot``: write this record too."""

    epoch: int
    tip: bool
    slot: SlotRecord | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing changes."""

    why: Refusal


def decide_commit(seen: MemberRecord, slot: SlotRecord | None, request: CommitRequest) -> Append | Refuse:
    """Apply the five checks of the module's docstring, in their order."""
    head = seen.head
    takes_over = head is None or request.epoch > head.epoch
    if head is not None:
        fenced = request.epoch < head.epoch or (request.epoch == head.epoch and request.writer != head.owner)
        if fenced:
            return Refuse(Refusal.FENCED)
        if head.commit == request.commit:
            return Refuse(Refusal.DUPLICATE)
    if takes_over and not _entitled(slot, request):
        return Refuse(Refusal.NOT_HELD)
    if head is not None:
        if request.line not in seen.lines and head.accepted != request.incarnation:
            return Refuse(Refusal.QUARANTINED)
        if head.seq != request.base_seq or request.seq <= head.seq:
            return Refuse(Refusal.CONFLICT)
    elif request.base_seq != 0:
        return Refuse(Refusal.CONFLICT)
    tip = head is not None and request.parent != head.commit
    return Append(request.epoch, tip, _slot_after(slot, request, takes_over=takes_over))


def _entitled(slot: SlotRecord | None, request: CommitRequest) -> bool:
    """A newcomer's first commit needs its claim; a claim newer than the record was lost by the store, and heals it."""
    if slot is None or request.epoch > slot.issued:
        return True
    return slot.names(request.writer, request.epoch)


def _slot_after(slot: SlotRecord | None, request: CommitRequest, *, takes_over: bool) -> SlotRecord | None:
    """The record that names the new writer. A reservation with a lower epoch would be fenced for ever: it goes."""
    if slot is None:
        return None
    if not takes_over:
        return None if slot.committed else replace(slot, committed=True)
    after = slot.next if slot.next is not None and slot.next.epoch > request.epoch else None
    pod, template, host = slot.pod, slot.template, slot.host
    if slot.next is not None and slot.next.uid == request.writer:
        pod, template, host = slot.next.pod, slot.next.template, slot.next.host
    return replace(
        slot,
        holder=request.writer,
        pod=pod,
        template=template,
        host=host,
        epoch=request.epoch,
        issued=max(slot.issued, request.epoch),
        next=after,
        released=0,
        committed=True,
    )


def line_of(proof: Proof | None, head: Head | None, nonce: str) -> str:
    """The line that a capture carries. Without headers nothing is guessed: it goes on with the head's, as a tip."""
    if proof is None:
        return head.manifest.line if head is not None else f"{UNPROVEN}{nonce}"
    if proof.restored_from is None:
        return proof.incarnation
    return proof.restored_from.rpartition(".")[0]


def parent_of(
    proof: Proof | None, head: Head | None, last: tuple[str, str] | None, files: Mapping[str, str], nonce: str
) -> str | None:
    """The commit that the captured process descends from, None when we cannot tell or it started empty.

    ``last`` is (incarnation, commit) of this writer's newest acknowledged commit; ``files`` maps snapshot id → commit
    of every restore file this pod was given. A head of this very process is an earlier capture of it, whoever wrote it
    (its reply may have been lost). Not being able to tell costs a kept tip, never a snapshot.
    """
    incarnation = proof.incarnation if proof is not None else nonce
    if head is not None and head.manifest.incarnation == incarnation:
        return head.commit
    if last is not None and last[0] == incarnation:
        return last[1]
    if proof is None or proof.restored_from is None:
        return None
    return files.get(proof.restored_from)
