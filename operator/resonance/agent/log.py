"""One line of JSON an event on standard output. Events carry names, counts and reasons: never a secret, never state.

The argument: what can leak is what is passed in, so nothing here formats exceptions with their values. An unexpected
error is logged by its type and place; only errors of this package, whose texts are ours, are logged in full.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import TextIO

from resonance.model.errors import ResonanceError


class Level(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Log:
    """Writes events. ``wall`` gives the time as seconds since 1970."""

    def __init__(self, wall: Callable[[], float], out: TextIO = sys.stdout) -> None:
        self._wall = wall
        self._out = out

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something needs attention; work goes on."""
        self._write(Level.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something could not be done."""
        self._write(Level.ERROR, event, fields)

    def unexpected(self, event: str, error: BaseException) -> None:
        """An error that nobody foresaw: its type and place, its text only if it is ours."""
        place = [
            f"{step.filename.rpartition('/')[2]}:{step.lineno}" for step in traceback.extract_tb(error.__traceback__)
        ]
        text = str(error) if isinstance(error, ResonanceError) else ""
        self._write(Level.ERROR, event, {"error": type(error).__name__, "message": text, "place": place[-6:]})

    def _write(self, level: Level, event: str, fields: dict[str, object]) -> None:
        line = {"ts": round(self._wall(), 3), "level": level, "event": event, **fields}
        try:
            self._out.write(json.dumps(line, default=str) + "\n")
            self._out.flush()
        except OSError:  # nobody reads our output any more: that is no reason to stop saving
            return
