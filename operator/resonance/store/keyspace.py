"""The port to Redis: consistent reads, and writes that happen only if what was read still stands.

The argument: the rules of claim, commit and release exist once, as pure functions in ``model``. The store reads, lets
the function decide, and applies the writes in one script that first compares what was read. If anything differs,
nothing is written and the caller reads and decides again. So the decision is as atomic as if the script had taken it
itself, and the model checker in the tests explores the very function that runs in production.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from resonance.model.durability import Durability
from resonance.model.errors import StoreDamaged

Fields = Mapping[bytes, bytes]
Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class HashIs:
    """Guard: the hash at ``key`` has exactly these fields (none: it does not exist)."""

    key: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class FieldIs:
    """Guard: one field of the hash at ``key`` has this value (None: it is absent)."""

    key: str
    field: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Exists:
    """Guard: there is something at ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class ListCount:
    """Guard: the list at ``key`` has so many items (0: it does not exist)."""

    key: str
    items: int


@dataclass(frozen=True, slots=True)
class FieldCount:
    """Guard: the hash at ``key`` has so many fields (0: it does not exist)."""

    key: str
    fields: int


Guard = HashIs | FieldIs | Exists | ListCount | FieldCount
""":class:`StoreDamaged` where the key holds another type than the guard speaks of."""
Write = tuple[Argument, ...]
"""One Redis command with its arguments, at most 1,000; all keys share one hash tag.

``("HSETNOW", key, field)`` sets a field to the Redis clock in ms. ``("METRICS", shown, exact, text)`` puts JSON at
``shown`` and its very text at ``exact`` where the server has RedisJSON, else the text at ``shown`` alone.
"""


@dataclass(frozen=True, slots=True)
class Hash:
    """Read: a whole hash → ``dict[bytes, bytes]``."""

    key: str


@dataclass(frozen=True, slots=True)
class Text:
    """Read: a string → ``bytes | None``."""

    key: str


@dataclass(frozen=True, slots=True)
class Items:
    """Read: a whole list → ``list[bytes]``."""

    key: str


@dataclass(frozen=True, slots=True)
class Field:
    """Read: one field of a hash → ``bytes | None``."""

    key: str
    field: str


Query = Hash | Text | Items | Field


@dataclass(frozen=True, slots=True)
class Reading:
    """What one :meth:`Keyspace.read` saw, at one instant of the Redis clock.

    Asking for a value whose key holds another type raises :class:`StoreDamaged`; the other values are there.
    """

    values: tuple[object, ...]
    at_ms: int

    def hash(self, index: int) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", self._value(index))

    def text(self, index: int) -> bytes | None:
        return cast("bytes | None", self._value(index))

    def items(self, index: int) -> list[bytes]:
        return cast("list[bytes]", self._value(index))

    def _value(self, index: int) -> object:
        value = self.values[index]
        if isinstance(value, StoreDamaged):
            raise value
        return value


class Keyspace(Protocol):
    """Redis as the engine needs it. Every method raises the errors of :class:`resonance.model.errors.StoreError`."""

    def read(self, queries: Sequence[Query]) -> Reading:
        """All answers as of one instant."""

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """Do all writes and return the Redis clock in ms if every guard holds; else do nothing and return None.

        ``StoreUnreachable`` means that the writes may have been done.
        """

    def stage(self, writes: Sequence[Write]) -> None:
        """Do writes that nobody reads yet (staging keys), outside any guard, in pieces that hold up no other client.

        Each piece is whole or absent, and an ``EXPIRE`` belongs to the piece of the write before it.
        """

    def info(self) -> Mapping[str, object]:
        """What the server says about itself (``INFO``), sections flattened."""

    def confirm(self, level: Durability, timeout_ms: int) -> Durability:
        """The level that what this thread applied last has reached, waiting at most ``timeout_ms`` for ``level``.

        It is ``level`` or ``Memory``, which is also the answer when nobody can tell. Raises nothing.
        """

    def close(self) -> None:
        """Give the connection back."""
