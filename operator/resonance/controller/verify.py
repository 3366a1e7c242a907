"""Opening heads: the proof behind ``Restorable``, at a bounded cost.

The writer reports what it stored; this reads it back as a restore would and compares digests. Each member's head is
opened soon after it first appears, then at most once in :data:`PAUSE_S` if it changed; a turn stops after
:data:`BUDGET_S`. States above :data:`LARGEST` are left to the restore itself, so that the operator's memory does not
depend on the apps'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from resonance.controller.observe import WorkloadSeen
from resonance.model.facts import Proved, Verified
from resonance.model.naming import WorkloadKeys
from resonance.store.keyspace import Keyspace
from resonance.store.member import Member, load
from resonance.store.restore import restore

PAUSE_S = 60.0
BUDGET_S = 0.5
LARGEST = 16 << 20
Key = tuple[str, str]
"""(workload, member)."""


@dataclass(frozen=True, slots=True)
class _Opened:
    found: Verified
    commit: str
    at: float


def open_head(keyspace: Keyspace, member: Member, *, max_bytes: int) -> tuple[Verified, str] | None:
    """Open one head as a restore would: the finding and the commit it is about.

    None when there is no head, or when it moved meanwhile. Raises store errors.
    """
    seen = load(keyspace, member)
    head = seen.record.head
    if head is None:
        return None
    if head.manifest.state_bytes > LARGEST:
        return Verified(Proved.TOO_LARGE, head.manifest.id), head.commit
    restored = restore(keyspace, member, seen, max_bytes=max_bytes)
    if restored is not None and restored.manifest.commit == head.commit and not restored.skipped:
        return Verified(Proved.INTACT, head.manifest.id), head.commit
    now = load(keyspace, member).record.head
    if now is None or now.commit != head.commit:
        return None
    if restored is None:
        return Verified(Proved.DAMAGED, head.manifest.id, "No snapshot of the member verifies."), head.commit
    instead = "its live keys" if restored.manifest.commit == head.commit else f"snapshot {restored.manifest.id}"
    return Verified(
        Proved.DAMAGED, head.manifest.id, f"{restored.skipped[0]}. A restore would use {instead}."
    ), head.commit


class Verifier:
    """What was opened of one policy's members."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._opened: dict[Key, _Opened] = {}

    @property
    def found(self) -> Mapping[Key, Verified]:
        """The newest finding of each member."""
        return {key: each.found for key, each in self._opened.items()}

    def due(self, seen: Mapping[str, WorkloadSeen]) -> list[Key]:
        """Whose head to open next, the longest unopened first."""
        now = self._steady()
        heads = {
            (workload, name): each.head for workload, found in seen.items() for name, each in found.members.items()
        }
        self._opened = {key: each for key, each in self._opened.items() if heads.get(key) is not None}
        wanted = []
        for key, head in heads.items():
            before = self._opened.get(key)
            if head is None:
                continue
            if before is None:
                wanted.append((float("-inf"), key))
            elif now - before.at >= PAUSE_S and (head.commit != before.commit or before.found.proved is Proved.DAMAGED):
                wanted.append((before.at, key))
        return [key for _, key in sorted(wanted)]

    def open_some(
        self, keyspace: Keyspace, keys: Mapping[str, WorkloadKeys], due: Iterable[Key], *, max_bytes: int
    ) -> None:
        """Open heads until the budget is spent. For a worker thread. Raises store errors."""
        began = self._steady()
        for workload, name in due:
            member = Member(name, keys[workload].member(name), keys[workload])
            found = open_head(keyspace, member, max_bytes=max_bytes)
            if found is not None:
                self._opened[workload, name] = _Opened(*found, self._steady())
            if self._steady() - began > BUDGET_S:
                return
