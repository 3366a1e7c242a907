"""The store as the sidecar meets it: read from a Secret that may change, away for hours, hanging for seconds.

The argument: an interval must hold while Redis hangs. So after a call that got no answer, further calls fail at once
until the pause is over; pauses double up to half a minute. One turn then waits for Redis once, not once a call. A flush
asks for one more try at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from resonance.engine.session import Clock
from resonance.model.durability import Durability
from resonance.model.errors import (
    InvalidInput,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from resonance.model.schedule import retry_delay
from resonance.store.connection import StoreSettings, read_secret_directory, read_settings
from resonance.store.keyspace import Guard, Keyspace, Query, Reading, Write

T = TypeVar("T")

FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 30_000


class PatientStore:
    """A :class:`resonance.store.keyspace.Keyspace` over whatever the Secret says now."""

    def __init__(self, directory: Path, connect: Callable[[StoreSettings], Keyspace], clock: Clock) -> None:
        self.address = ""
        self.failure: StoreError | None = None
        """Why the last call failed, None when it went well."""
        self._directory = directory
        self._connect = connect
        self._clock = clock
        self._secret: Mapping[str, str] | None = None
        self._keyspace: Keyspace | None = None
        self._why = ""
        self._failures = 0
        self._away_until = 0

    def refresh(self) -> bool:
        """Read the Secret again. True when it now names another store than before."""
        secret = _secret(self._directory)
        if secret == self._secret:
            return False
        self._secret = secret
        before, self._keyspace = self._keyspace, None
        if before is not None:
            before.close()
        address = self.address
        try:
            if not secret:
                self._why = (
                    f"the Secret is missing: nothing is mounted at {self._directory}. Check spec.store.secretRef."
                )
                return False
            settings = read_settings(secret)
            self._keyspace = self._connect(settings)
        except (InvalidInput, StoreError) as problem:
            self._why = str(problem)
            return False
        self.address = f"{settings.address}/{settings.database}"
        self.try_now()
        return bool(address) and address != self.address

    def try_now(self) -> None:
        """Let the next call try, however long the store has been away."""
        self._failures, self._away_until = 0, 0

    def _ask(self, call: Callable[[Keyspace], T]) -> T:
        if self._keyspace is None:
            self.failure = StoreRefused(self._why)
            raise self.failure
        if self._clock().steady_ms < self._away_until:
            raise self.failure or StoreUnreachable(f"Redis at {self.address} does not answer.")
        try:
            answer = call(self._keyspace)
        except StoreUnreachable as error:
            self._failures += 1
            pause = retry_delay(self._failures, first=FIRST_PAUSE_MS, most=LONGEST_PAUSE_MS)
            self._away_until = self._clock().steady_ms + pause
            self.failure = error
            raise
        except (StoreBusy, StoreRefused) as error:
            self.failure = error
            raise
        except StoreDamaged:
            self.failure, self._failures = None, 0
            raise
        self.failure, self._failures = None, 0
        return answer

    def read(self, queries: Sequence[Query]) -> Reading:
        """See the protocol."""
        return self._ask(lambda keyspace: keyspace.read(queries))

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """See the protocol."""
        return self._ask(lambda keyspace: keyspace.apply(guards, writes))

    def stage(self, writes: Sequence[Write]) -> None:
        """See the protocol."""
        self._ask(lambda keyspace: keyspace.stage(writes))

    def info(self) -> Mapping[str, object]:
        """See the protocol."""
        return self._ask(lambda keyspace: keyspace.info())

    def confirm(self, level: Durability, timeout_ms: int) -> Durability:
        """See the protocol."""
        return self._keyspace.confirm(level, timeout_ms) if self._keyspace is not None else Durability.MEMORY

    def close(self) -> None:
        """Close the connection."""
        if self._keyspace is not None:
            self._keyspace.close()


def _secret(directory: Path) -> dict[str, str]:
    try:
        return read_secret_directory(directory)
    except (OSError, UnicodeDecodeError):
        return {}
