"""A writer that goes on whatever its store does, and what was acknowledged to it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from resonance.codec import encode_state
from resonance.engine.writer import Capture, Writer
from resonance.model.durability import Durability
from resonance.model.errors import StoreError
from resonance.model.manifest import Manifest
from resonance.model.report import GOOD, Outcome
from resonance.model.retention import Retention
from resonance.model.state import State
from resonance.store.keyspace import Keyspace
from resonance.store.member import Member, load
from resonance.store.restore import restore
from tests.servers.places import eventually
from tests.store.test_member import FOUNDER, MAX_BYTES, state

_PAUSE_S = 0.01
KEEPS_ALL = Retention(recent=100_000, hourly=0, daily=0)


class Load:
    """Commits a changing state every few ms, in a thread; an unanswered commit is tried again."""

    def __init__(self, keyspace: Keyspace, member: Member, *, level: Durability) -> None:
        self._keyspace = keyspace
        self._member = member
        self._level = level
        self.writer = Writer(keyspace, member, uid="pod-a", pod="web-0", epoch=1, files={}, limits=KEEPS_ALL)
        self.acknowledged: list[tuple[Manifest, State, Durability]] = []
        self.failures: list[StoreError] = []
        self.broken: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        mark, pending = 0, None
        try:
            while not self._stop.wait(_PAUSE_S):
                mark += 1
                what = state(30, mark)
                pending = self._commit(what, pending)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.broken = error

    def _commit(self, what: State, pending: tuple[State, Capture] | None) -> tuple[State, Capture] | None:
        """Commit this, or once more what got no answer. Returns what is unanswered."""
        try:
            if pending is None:
                self.writer.learn()
                pending = what, self.writer.prepare(encode_state(what), FOUNDER, taken_at_ms=1)
            written = self.writer.commit(pending[1], level=self._level)
        except StoreError as error:
            self.failures.append(error)
            return pending
        if written.outcome in GOOD:
            self.acknowledged.append((written.manifest, pending[0], written.durability))
        else:
            assert written.outcome is Outcome.CONFLICT, written
        return None

    def until_more(self, count: int, level: Durability = Durability.MEMORY) -> None:
        """Wait for this many further acknowledged commits of at least this level."""
        before = self._count(level)
        eventually(lambda: self.broken is not None or self._count(level) >= before + count)

    def _count(self, level: Durability) -> int:
        return sum(level in {Durability.MEMORY, each} for _, _, each in list(self.acknowledged))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        if self.broken is not None:
            raise self.broken

    def missing(self, level: Durability) -> list[int]:
        """The seqs acknowledged at this level that cannot be restored exactly now. The writer must have stopped."""
        seen = load(self._keyspace, self._member)
        there = {each.commit: each for each in seen.record.all()}
        out = []
        for manifest, what, reached in self.acknowledged:
            if level not in {Durability.MEMORY, reached}:
                continue
            kept = there.get(manifest.commit)
            found = None
            if kept is not None:
                found = restore(self._keyspace, self._member, seen, max_bytes=MAX_BYTES, wanted=kept.__eq__)
            if found is None or found.state != what:
                out.append(manifest.seq)
        return out
