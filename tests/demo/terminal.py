"""Talking to the person at the terminal: headings, commands, waiting that shows it is alive, the table at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO, TypeVar

from tests.demo.proof import Proof
from tests.lab import LabError

PAUSE = 0.3  # seconds between two looks
HEARTBEAT = 10.0  # seconds between two lines where lines cannot be overwritten
NEWS = 0.5  # seconds: a shorter wait is not worth a line
WIDTH = 100

T = TypeVar("T")


class NotInTimeError(Exception):
    """A condition did not come true before its deadline; the text says which and what was seen last."""


def wants_colour(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Colour on a terminal, unless NO_COLOR is set to anything (https://no-color.org) or the terminal is dumb."""
    return out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Screen:
    """Everything that the demo says, with the seconds since it began."""

    def __init__(self, out: TextIO = sys.stdout, environ: Mapping[str, str] = os.environ) -> None:
        self._out = out
        self._live = out.isatty()
        self._colour = wants_colour(out, environ)
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def line(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)

    def heading(self, number: int, title: str, tells: str) -> None:
        self.line()
        rule = "─" * max(2, WIDTH - len(title) - 14)
        self.line(self.paint("1;36", f"── {number}  {title} {rule} {self.elapsed:5.0f} s"))
        self.line(f"   {tells}")

    def command(self, text: str) -> None:
        self.line(f"   {self.paint('1', '$ ' + text)}")

    def output(self, text: str) -> None:
        for each in text.rstrip().splitlines():
            self.line(f"   {each}")

    def proof(self, proof: Proof) -> None:
        mark = self.paint("1;32", "✔") if proof.holds else self.paint("1;31", "✘")
        self.line(f"   {mark} {proof.claim}: {self.paint('2', proof.figure)}")

    def wait(self, what: str, seen: Callable[[], T | None], seconds: float) -> T:
        """The first answer that is neither None nor False. Raises NotInTimeError after so many seconds.

        A look that fails (kubectl, the API server) is no answer; the last failure is in the error.
        """
        began = beat = time.monotonic()
        trouble = ""
        while True:
            answer = None
            try:
                answer = seen()
            except LabError as error:
                trouble = f"; {error}"
            now = time.monotonic()
            if answer is not None and answer is not False:
                self._erase()
                if now - began >= NEWS:
                    self.line(self.paint("2", f"   … {what}: {now - began:.1f} s"))
                return answer
            if now - began > seconds:
                self._erase()
                raise NotInTimeError(f"waited {seconds:.0f} s in vain for {what}{trouble}")
            beat = self._alive(what, now, now - began, beat)
            time.sleep(PAUSE)

    def _alive(self, what: str, now: float, waited: float, beat: float) -> float:
        if self._live:
            print(f"\r   … {what} ({waited:.0f} s)\033[K", end="", file=self._out, flush=True)
        elif now - beat >= HEARTBEAT:
            self.line(f"   … {what}, still waiting after {waited:.0f} s")
            return now
        return beat

    def _erase(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=self._out, flush=True)

    def table(self, rows: Sequence[tuple[str, Proof]]) -> None:
        """All proofs, one line each, under the titles of their steps."""
        self.line()
        self.line(self.paint("1;36", f"── Proofs {'─' * (WIDTH - 10)}"))
        width = max(len(proof.claim) for _, proof in rows)
        before = ""
        for title, proof in rows:
            if title != before:
                self.line(f"   {self.paint('1', title)}")
                before = title
            mark = self.paint("1;32", "✔") if proof.holds else self.paint("1;31", "✘")
            self.line(f"     {mark} {proof.claim:{width}}  {proof.figure}")
