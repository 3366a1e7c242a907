"""Reading one stored record strictly: every field has the type that its class declares, or the record is damaged.

The argument: a record in Redis may have been cut, edited or replaced. A wrong type that slips through here would come
up later as a crash in a decision, where nobody can say any more which key is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from resonance.model.errors import StoreDamaged

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Versioned:
    v: int


def read_record(text: bytes | str, kind: type[T], *, where: str, what: str, version: int) -> T:
    """One record of format ``version`` as its frozen dataclass; unknown fields are passed over.

    Raises :class:`StoreDamaged` naming ``where``, also for a newer format.
    """
    found = _decode(text, _Versioned, where, what).v
    if found != version:
        remedy = f"is newer than this version reads ({version}). Upgrade the agent."
        raise StoreDamaged(f"{where}: format {str(found)[:20]} {remedy}")
    return _decode(text, kind, where, what)


def read_part(text: bytes | str, kind: type[T], *, where: str, what: str, given: Mapping[str, object]) -> T:
    """One record that lacks the fields ``given``, which its place says. Raises :class:`StoreDamaged`."""
    raw: dict[str, Any] = _decode(text, dict[str, Any], where, what)
    try:
        return msgspec.convert({**raw, **given}, kind)
    except msgspec.ValidationError as error:
        raise StoreDamaged(f"{where}: not {what} ({error})") from error


def _decode(text: bytes | str, kind: type[T], where: str, what: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{where}: not {what} ({str(error)[:200]})") from error
    except (UnicodeError, RecursionError) as error:
        raise StoreDamaged(f"{where}: not {what} ({type(error).__name__})") from error
