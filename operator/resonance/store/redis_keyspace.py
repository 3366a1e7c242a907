"""The keyspace on a real Redis: reads in one MULTI, guarded writes in one script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from resonance.store.connection import GUARDED_SCRIPT, PIECE_BYTES, StoreSettings, connect, translate, trust
from resonance.store.keyspace import (
    Argument,
    Exists,
    Field,
    FieldIs,
    Guard,
    Hash,
    HashIs,
    Items,
    Query,
    Reading,
    Text,
    Write,
)


class RedisKeyspace:
    """:class:`resonance.store.keyspace.Keyspace` over one TLS Redis. Thread-safe; connects at the first call."""

    def __init__(self, settings: StoreSettings) -> None:
        self.address = settings.address
        self.trusted = trust(settings)
        self._client = connect(settings, self.trusted)
        self._script = ""

    def read(self, queries: Sequence[Query]) -> Reading:
        """One MULTI; the clock is read in it too."""
        try:
            pipe: Any = self._client.pipeline(transaction=True)
            for query in queries:
                _ask(pipe, query)
            pipe.time()
            *values, (seconds, micros) = pipe.execute()
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.address) from error
        return Reading(tuple(values), int(seconds) * 1000 + int(micros) // 1000)

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """One EVALSHA; loads the script when the server does not have it (then nothing was run)."""
        keys = sorted({guard.key for guard in guards} | {str(write[1]) for write in writes})
        arguments = [*_encode_guards(guards), *_encode_writes(writes)]
        try:
            answer = self._run(keys, arguments)
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.address) from error
        return None if answer is None else int(answer)

    def _run(self, keys: Sequence[str], arguments: Sequence[Argument]) -> bytes | None:
        client: Any = self._client
        if not self._script:
            self._script = client.script_load(GUARDED_SCRIPT)
        try:
            answer: bytes | None = client.evalsha(self._script, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            self._script = client.script_load(GUARDED_SCRIPT)
            answer = client.evalsha(self._script, len(keys), *keys, *arguments)
        return answer

    def stage(self, writes: Sequence[Write]) -> None:
        """One MULTI for each piece of about :data:`PIECE_BYTES`."""
        try:
            for piece in _pieces(writes):
                pipe: Any = self._client.pipeline(transaction=True)
                for write in piece:
                    pipe.execute_command(*write)
                pipe.execute()
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.address) from error

    def info(self) -> Mapping[str, object]:
        """``INFO``."""
        try:
            found: Any = self._client.info()
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.address) from error
        return dict(found)

    def replicate(self, replicas: int, timeout_ms: int) -> int:
        """``WAIT``."""
        try:
            client: Any = self._client
            return int(client.wait(replicas, timeout_ms))
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.address) from error

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _ask(pipe: Any, query: Query) -> None:
    match query:
        case Hash(key):
            pipe.hgetall(key)
        case Text(key):
            pipe.get(key)
        case Items(key):
            pipe.lrange(key, 0, -1)
        case Field(key, field):
            pipe.hget(key, field)


def _encode_guards(guards: Sequence[Guard]) -> list[Argument]:
    out: list[Argument] = [len(guards)]
    for guard in guards:
        match guard:
            case HashIs(key, fields):
                out += ["hash", key, len(fields)]
                for name, value in fields.items():
                    out += [name, value]
            case FieldIs(key, field, None):
                out += ["none", key, field]
            case FieldIs(key, field, value):
                out += ["field", key, field, value]
            case Exists(key):
                out += ["there", key]
    return out


def _encode_writes(writes: Sequence[Write]) -> Iterable[Argument]:
    for write in writes:
        yield len(write)
        yield from write


def _pieces(writes: Sequence[Write]) -> Iterable[list[Write]]:
    """``EXPIRE`` stays with the write before it, so that nothing without an end is left when the writer dies."""
    piece: list[Write] = []
    size = 0
    for write in writes:
        if size >= PIECE_BYTES and write[0] != "EXPIRE":
            yield piece
            piece, size = [], 0
        piece.append(write)
        size += sum(len(each) if isinstance(each, bytes | str) else 8 for each in write)
    if piece:
        yield piece
