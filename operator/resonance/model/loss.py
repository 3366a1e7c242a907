"""Noticing that the store lost what it had acknowledged: a fail-over to a replica that lagged, or an older backup.

A writer remembers the newest snapshot that was acknowledged to it. Whatever it reads later must contain it, unless so
many came after it that retention may have dropped it.
"""

from __future__ import annotations

from dataclasses import dataclass

from resonance.model.manifest import Manifest, MemberRecord


@dataclass(frozen=True, slots=True)
class Loss:
    """``lost`` had been acknowledged and is gone; ``left`` is the newest that is still there, None when none is."""

    lost: Manifest
    left: Manifest | None

    @property
    def message(self) -> str:
        """What happened, to what, the next step."""
        left = f"goes back to {self.left.seq}" if self.left is not None else "has none"
        return (
            f"Redis lost acknowledged snapshots: {self.lost.id} was its newest and it now {left} (a fail-over to a "
            "replica that lagged, or an old backup). The state is saved anew; check Redis's replication and disk."
        )


def lost(acknowledged: Manifest | None, seen: MemberRecord) -> Loss | None:
    """The loss that ``seen`` shows, None when it shows none."""
    if acknowledged is None:
        return None
    head = seen.head
    if head is None:
        return Loss(acknowledged, None)
    if acknowledged.commit in {head.commit, *(each.commit for each in seen.all())}:
        return None
    oldest = min((each.seq for each in seen.recent), default=head.seq)
    if acknowledged.seq < oldest:  # retention may have dropped it
        return None
    before = [each for each in seen.all() if each.seq < acknowledged.seq]
    return Loss(acknowledged, head.manifest if head.seq < acknowledged.seq else next(iter(before), None))
