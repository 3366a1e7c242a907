"""Intervals and sizes as people write them in a policy: ``10s``, ``5m``, ``1h``; ``8Mi``, ``1G``, ``4096``.

The same grammar as the rules of the CRD, so that what the API server accepts is what the agent and the operator read.
Deliberately not here: combined intervals (``1m30s``) and fractions, which the CRD refuses too.
"""

from __future__ import annotations

import re
from datetime import timedelta

from resonance.model.errors import InvalidInput

_DURATION = re.compile(r"(0|[1-9][0-9]{0,5})([smh])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SIZE = re.compile(r"([1-9][0-9]{0,9})(k|M|G|Ki|Mi|Gi)?\Z")
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def parse_duration(path: str, text: str) -> timedelta:
    """The interval in ``text``; ``0s`` is allowed. Raises :class:`InvalidInput` naming ``path``."""
    match = _DURATION.match(text)
    if match is None:
        raise InvalidInput(path, text, "an interval is a whole number and s, m or h. Try '10s' or '5m'.")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def parse_size(path: str, text: str) -> int:
    """The bytes in ``text``. Raises :class:`InvalidInput` naming ``path``."""
    match = _SIZE.match(text)
    if match is None:
        raise InvalidInput(path, text, "a size is a whole number and k, M, G, Ki, Mi or Gi. Try '8Mi'.")
    return int(match[1]) * _BYTES[match[2] or ""]


def show_duration(milliseconds: int) -> str:
    """An interval for messages: ``250ms``, ``8.2s``, ``5m``, ``2h``."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1000
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{seconds:.1f}".removesuffix(".0") + "s"
