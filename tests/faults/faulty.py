"""A keyspace that fails on purpose at the n-th call: before it, after it, or in the middle of staging.

``Crash`` is the death of the process: whoever catches it has to throw the writer away. The other faults are what a
living writer meets: no answer although nothing was done, or no answer although everything was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from resonance.model.durability import Durability
from resonance.model.errors import StoreUnreachable
from resonance.store.keyspace import Guard, Keyspace, Query, Reading, Write


class Fault(StrEnum):
    """What happens at the chosen call."""

    NONE = "none"
    CUT_BEFORE = "cut-before"
    CUT_AFTER = "cut-after"
    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    INTERLEAVE = "interleave"
    """Somebody else has a whole turn before the call goes on."""


class Crash(Exception):
    """The process died here."""


@dataclass(slots=True)
class Plan:
    """``fault`` happens at call number ``at`` (0 is the next one). ``other`` is the turn of somebody else."""

    fault: Fault = Fault.NONE
    at: int = 0
    other: Callable[[], None] | None = None


class FaultyKeyspace:
    """:class:`resonance.store.keyspace.Keyspace` around a good one. ``witness`` is called after each call."""

    def __init__(self, inner: Keyspace, witness: Callable[[], None] = lambda: None) -> None:
        self._inner = inner
        self._witness = witness
        self.plan = Plan()

    def _before(self) -> Fault:
        """The fault of this call, None for most."""
        plan = self.plan
        plan.at -= 1
        if plan.at != -1:
            return Fault.NONE
        match plan.fault:
            case Fault.CUT_BEFORE:
                raise StoreUnreachable("cut before the call")
            case Fault.CRASH_BEFORE:
                raise Crash
            case Fault.INTERLEAVE if plan.other is not None:
                plan.other()
        return plan.fault

    def _after(self, fault: Fault) -> None:
        self._witness()
        if fault is Fault.CUT_AFTER:
            raise StoreUnreachable("the reply was lost")
        if fault is Fault.CRASH_AFTER:
            raise Crash

    def read(self, queries: Sequence[Query]) -> Reading:
        fault = self._before()
        found = self._inner.read(queries)
        self._after(fault)
        return found

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        fault = self._before()
        done = self._inner.apply(guards, writes)
        self._after(fault)
        return done

    def stage(self, writes: Sequence[Write]) -> None:
        """A fault lets the first half of the writes through: staging is not atomic."""
        fault = self._before()
        torn = fault in (Fault.CUT_AFTER, Fault.CRASH_AFTER)
        self._inner.stage(writes[: len(writes) // 2] if torn else writes)
        self._after(fault)

    def info(self) -> Mapping[str, object]:
        return self._inner.info()

    def confirm(self, level: Durability, timeout_ms: int) -> Durability:
        return self._inner.confirm(level, timeout_ms)

    def close(self) -> None:
        self._inner.close()
