"""In-memory doubles that ship with the package: the same contract suite runs against them and against real Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from resonance.model.durability import Durability
from resonance.model.errors import StoreDamaged, StoreUnreachable
from resonance.store.keyspace import (
    Exists,
    Field,
    FieldCount,
    FieldIs,
    Guard,
    Hash,
    HashIs,
    Items,
    ListCount,
    Query,
    Reading,
    Text,
    Write,
)

T = TypeVar("T")
Value = dict[bytes, bytes] | list[bytes] | bytes


_NEEDS: Mapping[str, type] = {
    "HSET": dict,
    "HSETNOW": dict,
    "HDEL": dict,
    "LPUSH": list,
    "LTRIM": list,
    "SETRANGE": bytes,
}


def _other_type(key: str) -> StoreDamaged:
    return StoreDamaged(f"{key} holds another type than belongs there. Delete it: the next commit writes it anew.")


def _bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


class MemoryKeyspace:
    """:class:`resonance.store.keyspace.Keyspace` in a dict. Share one between writers to let them meet.

    ``away``: every call raises ``StoreUnreachable``. ``lose_replies``: that many next applies are done and then answer
    ``StoreUnreachable``. ``at_ms`` is the clock, moved by hand.
    """

    def __init__(self) -> None:
        self.data: dict[str, Value] = {}
        self.at_ms = 1_000_000
        self.away = False
        self.lose_replies = 0
        self.replicas = 0
        self._lock = threading.RLock()

    def _answer(self) -> None:
        if self.away:
            raise StoreUnreachable("the store is away")

    def read(self, queries: Sequence[Query]) -> Reading:
        """All answers at one instant."""
        with self._lock:
            self._answer()
            return Reading(tuple(self._value(query) for query in queries), self.at_ms)

    def _value(self, query: Query) -> object:
        found = self.data.get(query.key)
        match query, found:
            case (Hash() | Field() | Items(), None):
                return {Hash: {}, Field: None, Items: []}[type(query)]
            case Hash(), dict():
                return dict(found)
            case Items(), list():
                return list(found)
            case Field(_, field), dict():
                return found.get(field.encode())
            case Text(), None | bytes():
                return found
        return _other_type(query.key)

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """Writes if every guard holds."""
        with self._lock:
            self._answer()
            if not all(self._holds(guard) for guard in guards):
                return None
            self._check_types(writes)
            for write in writes:
                self._do(write)
            if self.lose_replies:
                self.lose_replies -= 1
                raise StoreUnreachable("the reply was lost")
            return self.at_ms

    def _check_types(self, writes: Sequence[Write]) -> None:
        known: set[str] = set()
        for write in writes:
            name, key = str(write[0]), str(write[1])
            found = self.data.get(key)
            needed = _NEEDS.get(name)
            if needed is not None and key not in known and found is not None and not isinstance(found, needed):
                raise _other_type(key)
            known |= {key, str(write[2])} if name == "RENAME" else {key}

    def _typed(self, key: str, kind: Callable[[], T]) -> T:
        """The value, or an empty one; raises for a key of another type."""
        found = self.data.get(key)
        empty = kind()
        if found is not None and not isinstance(found, type(empty)):
            raise _other_type(key)
        return empty if found is None else found

    def _holds(self, guard: Guard) -> bool:
        match guard:
            case Exists(key):
                return key in self.data
            case ListCount(key, items):
                return items == len(self._typed(key, list))
            case FieldCount(key, count):
                return count == len(self._typed(key, dict))
        found: dict[bytes, bytes] = self._typed(guard.key, dict)
        match guard:
            case HashIs(_, fields):
                return dict(fields) == found
            case FieldIs(_, field, value):
                return found.get(field.encode()) == value

    def stage(self, writes: Sequence[Write]) -> None:
        """Plain writes."""
        with self._lock:
            self._answer()
            for write in writes:
                self._do(write)

    def info(self) -> Mapping[str, object]:
        """A healthy server."""
        self._answer()
        return {"maxmemory_policy": "noeviction", "aof_enabled": 1, "connected_slaves": self.replicas, "role": "master"}

    def confirm(self, level: Durability, timeout_ms: int) -> Durability:
        """What was asked for, a replica only where ``replicas`` says that there is one."""
        del timeout_ms
        return Durability.MEMORY if level is Durability.REPLICA and not self.replicas else level

    def close(self) -> None:
        """Nothing to close."""

    def _do(self, write: Write) -> None:
        name, key, *rest = write
        command: Callable[[str, list[bytes]], None] = getattr(self, f"_{str(name).lower()}")
        command(str(key), [_bytes(each) for each in rest])

    def _hset(self, key: str, pairs: list[bytes]) -> None:
        target = cast("dict[bytes, bytes]", self.data.setdefault(key, {}))
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _hsetnow(self, key: str, rest: list[bytes]) -> None:
        self._hset(key, [rest[0], str(self.at_ms).encode()])

    def _hdel(self, key: str, fields: list[bytes]) -> None:
        target = cast("dict[bytes, bytes]", self.data.get(key, {}))
        for field in fields:
            target.pop(field, None)
        if not target:
            self.data.pop(key, None)

    def _set(self, key: str, rest: list[bytes]) -> None:
        self.data[key] = rest[0]

    def _metrics(self, key: str, rest: list[bytes]) -> None:
        self._del(key, [rest[0]])
        self.data[key] = rest[1]

    def _setrange(self, key: str, rest: list[bytes]) -> None:
        at, piece = int(rest[0]), rest[1]
        old = cast("bytes", self.data.get(key, b"")).ljust(at, b"\0")
        self.data[key] = old[:at] + piece + old[at + len(piece) :]

    def _del(self, key: str, rest: list[bytes]) -> None:
        for each in (key, *(more.decode() for more in rest)):
            self.data.pop(each, None)

    _unlink = _del

    def _rename(self, key: str, rest: list[bytes]) -> None:
        self.data[rest[0].decode()] = self.data.pop(key)

    def _persist(self, key: str, rest: list[bytes]) -> None:
        """Keys do not expire here."""

    _expire = _persist

    def _lpush(self, key: str, rest: list[bytes]) -> None:
        target = cast("list[bytes]", self.data.setdefault(key, []))
        for each in rest:
            target.insert(0, each)

    def _ltrim(self, key: str, rest: list[bytes]) -> None:
        target = cast("list[bytes]", self.data.get(key, []))
        self.data[key] = target[int(rest[0]) : int(rest[1]) + 1]
