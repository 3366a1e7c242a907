"""What a writer says of itself after each turn: the hash ``P:report``, and the vocabulary in it.

Ages are on the Redis clock: the store stamps ``at_ms``, the writer says how long before that the newest good state was
captured (``taken_ago_ms``). So a node with a wrong clock cannot make an old snapshot look fresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from resonance.model.errors import StoreDamaged


class Outcome(StrEnum):
    """How a capture ended."""

    SAVED = "Saved"
    SAVED_UNREPLICATED = "SavedUnreplicated"
    SAVED_UNSYNCED = "SavedUnsynced"
    UNCHANGED = "Unchanged"
    SUPERSEDED = "Superseded"
    QUARANTINED = "Quarantined"
    CONFLICT = "Conflict"
    NOT_HELD = "NotHeld"
    CAPTURE_FAILED = "CaptureFailed"
    NOT_READY = "NotReady"
    NOT_UNDERSTOOD = "StateNotUnderstood"
    TOO_LARGE = "StateTooLarge"
    STORE_AWAY = "StoreAway"
    SUSPENDED = "Suspended"
    FINAL = "Final"
    FLUSHED = "Flushed"
    TIMED_OUT = "TimedOut"
    SKIPPED = "Skipped"


GOOD = frozenset({Outcome.SAVED, Outcome.SAVED_UNREPLICATED, Outcome.SAVED_UNSYNCED, Outcome.UNCHANGED})
"""Outcomes after which the newest captured state is the member's head."""


@dataclass(frozen=True, slots=True)
class Report:
    """One writer's last turn. Empty strings and -1 mean "not yet". Durations are ms, sizes bytes."""

    outcome: Outcome
    message: str
    uid: str
    pod: str
    node: str
    host: str
    version: str
    every_ms: int
    at_ms: int = -1
    taken_ago_ms: int = -1
    """How long before the report the newest state that is head was captured."""
    gap_ms: int = -1
    """Between the last two good captures: the RPO that was really kept."""
    duration_ms: int = -1
    seq: int = -1
    id: str = ""
    stored_bytes: int = -1
    state_bytes: int = -1
    incarnation: str = ""
    proven: bool = True
    restored_from: str = ""
    restore: str = ""
    """How the start went: Restored, NeverExisted, KeptFile, StartedEmpty."""
    restore_ms: int = -1
    restore_note: str = ""
    flush: str = ""
    quarantined: str = ""
    """The incarnation whose captures are put aside, empty when none."""
    tips: int = 0
    evicted_tips: int = 0
    durability: str = ""
    """The level that the newest snapshot has reached: Memory, Fsync, Replica."""
    lost_acknowledged: str = ""
    """The id of the newest acknowledged snapshot that the store lost while this writer lived, empty when none."""

    def to_fields(self) -> dict[str, str]:
        """The hash without ``at_ms``, which the store stamps."""
        raw = asdict(self)
        del raw["at_ms"]
        raw["proven"] = int(self.proven)
        return {name: str(value) for name, value in raw.items()}

    @classmethod
    def from_fields(cls, raw: Mapping[bytes, bytes], *, where: str) -> Report | None:
        """None for an empty hash. Unknown fields of newer writers are passed over. Raises :class:`StoreDamaged`."""
        if not raw:
            return None
        try:
            text = {name.decode(): value.decode() for name, value in raw.items()}
            known: dict[str, object] = {}
            for each in fields(cls):
                if each.name in text:
                    known[each.name] = _parse(str(each.type), text[each.name])
            return cls(**known)  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise StoreDamaged(f"{where}: not a report ({type(error).__name__})") from error


def _parse(kind: str, text: str) -> object:
    if kind == "int":
        return int(text)
    if kind == "bool":
        return text == "1"
    return Outcome(text) if kind == "Outcome" else text
