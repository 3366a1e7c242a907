"""Waiting for something to become true, with a deadline: the only place where a cluster test is idle."""

import time
from collections.abc import Callable

PAUSE_SECONDS = 0.2


def within(seconds: float, what: str, done: Callable[[], bool]) -> float:
    """Ask until the answer is yes and give the seconds that it took; no yes within the time is an AssertionError."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(PAUSE_SECONDS)
    return time.monotonic() - began
