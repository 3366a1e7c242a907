"""How other threads reach the one that saves: a flush is asked for and waited for, the end is announced.

The argument: a flush must cover the state at the time of its call. So each call takes a ticket, and only a capture that
*begins* after that answers it; calls that come together share one capture. Waiting is bounded by the caller's deadline
whatever the saving thread is stuck in.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush came to. ``id`` is the newest snapshot, empty when there is none."""

    outcome: str
    id: str = ""
    message: str = ""


class Bell:
    """Tickets for flushes, and the end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._answer: Flushed | None = None
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """True once the end was announced."""
        with self._changed:
            return self._stopping

    def stop(self) -> None:
        """Announce the end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def flush(self, within: float) -> Flushed | None:
        """Ask for a capture that begins now or later, and wait for it ``within`` seconds; None when that is over."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket, within)
            return self._answer if self._answered >= ticket else None

    def asked(self) -> int:
        """The newest ticket that nobody has answered, 0 when there is none."""
        with self._changed:
            return self._asked if self._asked > self._answered else 0

    def answer(self, ticket: int, answer: Flushed) -> None:
        """Answer this ticket and all before it."""
        with self._changed:
            self._answered, self._answer = ticket, answer
            self._changed.notify_all()

    def wait(self, within: float, *, flush_after: float) -> None:
        """Wait until the end is announced or ``within`` seconds are over; for a flush only after ``flush_after``."""
        with self._changed:
            if self._changed.wait_for(lambda: self._stopping, min(within, flush_after)):
                return
            self._changed.wait_for(
                lambda: self._stopping or self._asked > self._answered, max(0.0, within - flush_after)
            )
