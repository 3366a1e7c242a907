"""The rules as the product has them: its own pure functions, and the conduct of the hosts that the world mirrors.

``PRODUCT`` is the product. A test replaces one field by what an earlier draft did in its place: a function out of
taken_out.py, or another member of the enumerations here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from resonance.model.claim import (
    Decision,
    SlotRecord,
    Slots,
    decide_claim,
    decide_release,
)
from resonance.model.commit import Append, CommitRequest, Refuse, decide_commit, line_of, parent_of
from resonance.model.manifest import Head, MemberRecord
from resonance.model.naming import workload_keys
from resonance.model.restore import decide_restore
from tests.protocol.world import Kube, Pod, Stage, Store


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
