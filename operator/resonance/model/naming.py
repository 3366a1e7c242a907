"""The names of all Redis keys, computed from their cause, so that a retry meets its own earlier work.

One workload's keys carry one hash tag, so that any claim or commit is one script in one slot of a Redis Cluster. The
library's keys are plain (``resonance:nodes``): its prefix is the member's key itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resonance.model.errors import InvalidInput

DEFAULT_PREFIX = "resonance"
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
KIND_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")

RESERVED_KINDS = frozenset({"metrics", "head", "snapshots", "snapshot", "kept", "report", "quarantine", "aside"})
"""Names that a kind cannot have, because a key or a top-level field of that name means something else."""


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """The keys of one member (``P`` in docs/format.md)."""

    root: str

    @property
    def head(self) -> str:
        return f"{self.root}:head"

    @property
    def snapshots(self) -> str:
        return f"{self.root}:snapshots"

    @property
    def kept(self) -> str:
        return f"{self.root}:kept"

    @property
    def report(self) -> str:
        return f"{self.root}:report"

    @property
    def quarantine(self) -> str:
        return f"{self.root}:quarantine"

    @property
    def aside(self) -> str:
        """Which superseded pods have a state aside."""
        return f"{self.root}:aside"

    @property
    def metrics(self) -> str:
        """The readable copy: JSON where the server has it, else text."""
        return f"{self.root}:metrics"

    @property
    def exact_metrics(self) -> str:
        """The very text of them, only where ``metrics`` is JSON."""
        return f"{self.root}:metrics:exact"

    def live(self, kind: str) -> str:
        """The hash id → JSON of one kind, newest state."""
        return f"{self.root}:{kind}"

    def base(self, seq: int) -> str:
        return f"{self.root}:base:{seq}"

    def delta(self, seq: int) -> str:
        return f"{self.root}:delta:{seq}"

    def tip(self, uid: str) -> str:
        """Where a pod that lost its member goes on saving; overwritten each time."""
        return f"{self.root}:tip:{uid}"

    def stage(self, commit: str, name: str) -> str:
        return f"{self.root}:stage:{commit}:{name}"


@dataclass(frozen=True, slots=True)
class WorkloadKeys:
    """The keys of one workload under one policy (``W`` in docs/format.md)."""

    root: str

    @property
    def slots(self) -> str:
        return f"{self.root}:slots"

    @property
    def policy(self) -> str:
        return f"{self.root}:policy"

    @property
    def waiting(self) -> str:
        return f"{self.root}:waiting"

    def member(self, member: str) -> MemberKeys:
        return MemberKeys(f"{self.root}:{member}")


def workload_keys(prefix: str, namespace: str, policy: str, workload: str) -> WorkloadKeys:
    """The keys of workload ``<kind>.<name>``.

    Raises :class:`InvalidInput` for a prefix that could leave its own space.
    """
    if not _PREFIX.match(prefix):
        remedy = (
            "a prefix is 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit. Try 'resonance'."
        )
        raise InvalidInput("store.prefix", prefix, remedy)
    return WorkloadKeys(f"{prefix}:{{{namespace}/{policy}/{workload}}}")


def slot_member(index: int) -> str:
    """The member's name of a numbered slot."""
    return f"slot-{index}"
