"""Long steps that show they are alive.

A line when a step starts, one at least every 15 s while it runs, and one with its time when it ends.
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.failure import LabError
from tests.lab.layout import say

HEARTBEAT_SECONDS = 15.0
TAIL_LINES = 25


class Progress:
    """Elapsed seconds since this program started, in front of every line."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def line(self, text: str) -> None:
        """Print one line with the time in front."""
        say(f"[{time.monotonic() - self._started:6.1f} s] {text}")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announce `text`, beat while the body runs, and say how long it took."""
        self.line(f"{text} …")
        began, ended = time.monotonic(), threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                self.line(f"{text} … still running after {time.monotonic() - began:.0f} s")

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
        self.line(f"{text}: done in {time.monotonic() - began:.1f} s")


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
) -> str:
    """Run a command to its end and give its standard output; `text` is its standard input.

    A failure is a LabError with the command and the last lines that it said.
    """
    argv = [str(word) for word in command]
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=None if environment is None else {**os.environ, **environment},
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            f"{argv[0]}: not found. `python3 -m tests.lab up` installs what it needs; look at its first lines."
        ) from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL_LINES:])
        raise LabError(f"`{' '.join(argv)}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def attempt(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> bool:
    """Run a command whose failure is an answer, not an error; True means that it succeeded."""
    argv, variables = [str(word) for word in command], {**os.environ, **(environment or {})}
    try:
        return (
            subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=variables).returncode
            == 0
        )
    except FileNotFoundError:
        return False
