"""What a starting process is given: three answers, never mixed.

*Exists*: the verified state. *Never existed*: start without. *Cannot tell*: the policy's ``restore.onUnknown``
decides, and never silently. A record that once committed but has no head, and a member that the operator knows to have
had snapshots, are "cannot tell": an empty start there would be the first step of losing the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from resonance.model.claim import SlotRecord
from resonance.model.manifest import Head


class OnUnknown(StrEnum):
    """``restore.onUnknown``."""

    WAIT = "Wait"
    FAIL = "Fail"
    START_EMPTY = "StartEmpty"


class Unknown(StrEnum):
    """Why we cannot tell; shown in the log and the status."""

    STORE_UNREACHABLE = "StoreUnreachable"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, not a password
    HEAD_LOST = "HeadLost"
    NOTHING_VERIFIES = "NothingVerifies"
    OTHER_CLUSTER = "OtherCluster"
    SLOT_AWAITED = "SlotAwaited"


@dataclass(frozen=True, slots=True)
class Give:
    """Restore this member's newest intact snapshot."""


@dataclass(frozen=True, slots=True)
class KeepFile:
    """The file on tmpfs is this pod's own and not older than the head: leave it."""


@dataclass(frozen=True, slots=True)
class NeverExisted:
    """Start without a file."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Neither is known."""

    why: Unknown


Answer = Give | KeepFile | NeverExisted | CannotTell


@dataclass(frozen=True, slots=True)
class LocalFile:
    """What a restore file of this very pod uid says it holds."""

    line: str
    seq: int
    epoch: int


def decide_restore(record: SlotRecord, head: Head | None, *, known_seq: int | None, file: LocalFile | None) -> Answer:
    """``record`` is the claimed one; ``known_seq`` the newest seq that the operator ever saw for it, None if none."""
    if head is None:
        if file is not None:
            return KeepFile()
        return CannotTell(Unknown.HEAD_LOST) if record.committed or known_seq is not None else NeverExisted()
    if file is not None and file.epoch >= head.epoch and file.seq >= head.seq:
        return KeepFile()
    return Give()
