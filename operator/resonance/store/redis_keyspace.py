"""The keyspace on a real Redis, whether one server, Sentinel or Cluster: reads in one MULTI, guarded writes in one
script.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import redis

from resonance.model.durability import Durability
from resonance.model.errors import InvalidInput, StoreBusy, StoreDamaged, StoreError, StoreRefused
from resonance.store.connection import DELETE_IT, GUARDED_SCRIPT, PIECE_BYTES, StoreSettings, translate, trust
from resonance.store.health import worst
from resonance.store.keyspace import (
    Argument,
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
from resonance.store.place import Node
from resonance.store.servers import Server, Servers, open_servers

T = TypeVar("T")

_SCRIPT_SHA = hashlib.sha1(GUARDED_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_REDIRECTIONS = 5


class RedisKeyspace:
    """:class:`resonance.store.keyspace.Keyspace` over a TLS Redis. Thread-safe; connects at the first call.

    ``settings`` may be a function: it is asked again before a connection is made after one that failed, so that a
    changed password or certificate is used without a restart. Raises what it raises, and :class:`StoreRefused` for a
    certificate that cannot be read.
    """

    def __init__(self, settings: StoreSettings | Callable[[], StoreSettings]) -> None:
        self._settings = settings if callable(settings) else lambda: settings
        self._now = self._settings()
        self.address = self._now.address
        self.trusted = trust(self._now)
        self._servers: Servers = open_servers(self._now, self.trusted)
        self._doubted = False
        self._lock = threading.Lock()
        self._mine = threading.local()

    def _found(self) -> Servers:
        """The servers by the settings as they are now, if anything went wrong since."""
        if self._doubted:
            with self._lock:
                self._reread()
        return self._servers

    def _reread(self) -> None:
        try:
            settings = self._settings()
        except (InvalidInput, OSError) as error:
            raise StoreRefused(f"Redis at {self.address} cannot be asked: {error}") from error
        if settings != self._now:
            trusted = trust(settings)
            before, self._servers = self._servers, open_servers(settings, trusted)
            self._now, self.address, self.trusted = settings, settings.address, trusted
            before.close()
        self._doubted = False

    def _at(self, keys: Sequence[str], call: Callable[[Server], T]) -> T:
        """Call the server of these keys; follow where it sends us and load the script it lacks: then it did nothing."""
        servers = self._found()
        server = self._server_of(servers, keys)
        asking = unloaded = False
        for _ in range(_REDIRECTIONS):
            try:
                if unloaded:
                    server.client().script_load(GUARDED_SCRIPT)
                if asking:
                    server.asking()
                return call(server)
            except redis.exceptions.NoScriptError:
                unloaded = True
            except redis.exceptions.AskError as error:
                server, asking = servers.at(Node(error.host or server.node.host, error.port)), True
            except redis.exceptions.MovedError as error:
                servers.doubt()
                server, asking = servers.at(Node(error.host or server.node.host, error.port)), False
            except (redis.RedisError, OSError) as error:
                self._doubt(servers)
                raise translate(error, server.address) from error
        raise StoreBusy(f"{self.address} cannot serve this now: {keys[0]} moves from node to node.")

    def _server_of(self, servers: Servers, keys: Sequence[str]) -> Server:
        try:
            return servers.of(keys)
        except StoreError:
            self._doubt(servers)
            raise

    def _doubt(self, servers: Servers) -> None:
        servers.doubt()
        self._doubted = True

    def read(self, queries: Sequence[Query]) -> Reading:
        """One MULTI; the clock is read in it too."""

        def call(server: Server) -> Reading:
            pipe = server.client().pipeline(transaction=True)
            for query in queries:
                _ask(pipe, query)
            pipe.time()
            *values, clock = pipe.execute(raise_on_error=False)
            found = [_found(query, value) for query, value in zip(queries, values, strict=True)]
            seconds, micros = _found(Text("TIME"), clock)
            return Reading(tuple(found), int(seconds) * 1000 + int(micros) // 1000)

        return self._at([query.key for query in queries], call)

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """One EVALSHA; loads the script when the server does not have it (then nothing was run)."""
        keys = sorted({guard.key for guard in guards} | {str(write[1]) for write in writes})

        def call(server: Server) -> int | None:
            told = writes if server.json else _as_text(writes)
            arguments = [*_encode_guards(guards), *_encode_writes(told)]
            answer = server.client().evalsha(_SCRIPT_SHA, len(keys), *keys, *arguments)
            if answer is None:
                return None
            server.wrote()
            self._mine.wrote = server
            at, _, without = answer.partition(b" ")
            server.json = server.json and not without
            return int(at)

        return self._at(keys, call)

    def stage(self, writes: Sequence[Write]) -> None:
        """One MULTI for each piece of about :data:`PIECE_BYTES`."""
        for piece in _pieces(writes):
            self._at([str(write[1]) for write in piece], _sent(piece))

    def info(self) -> Mapping[str, object]:
        """``INFO``; of several primaries the worst of each fact. A look at the health is one at who is primary, too: a
        demoted one takes writes until it hears of it.
        """
        servers = self._found()
        servers.doubt()
        found = []
        try:
            for server in servers.primaries():
                try:
                    found.append(dict(server.client().info()))
                except (redis.RedisError, OSError) as error:
                    raise translate(error, server.address) from error
        except StoreError:
            self._doubt(servers)
            raise
        return worst(found)

    def confirm(self, level: Durability, timeout_ms: int) -> Durability:
        """``WAIT`` or ``WAITAOF`` on the connection that wrote; one that broke meanwhile confirms nothing."""
        server: Server | None = getattr(self._mine, "wrote", None)
        if level is Durability.MEMORY or server is None:
            return Durability.MEMORY
        try:
            if level is Durability.REPLICA:
                reached = (server.confirm("WAIT", 1, timeout_ms) or 0) >= 1
            else:
                reached = _on_disk(server, timeout_ms)
        except (redis.RedisError, OSError):
            reached = False
        if not reached:  # perhaps a primary that was cut off from its replicas and has a successor by now
            self._doubt(self._servers)
        return level if reached else Durability.MEMORY

    def close(self) -> None:
        """Close all connections."""
        self._servers.close()


def _on_disk(server: Server, timeout_ms: int) -> bool:
    try:
        confirmed = server.confirm("WAITAOF", 1, 0, timeout_ms)
    except redis.ResponseError:  # older than 7.2, or no right to ask
        said = server.client().execute_command("CONFIG", "GET", "append*")
        known = said if isinstance(said, Mapping) else dict(zip(said[::2], said[1::2], strict=True))
        policy = known.get(b"appendfsync", known.get("appendfsync")), known.get(b"appendonly", known.get("appendonly"))
        return policy in {(b"always", b"yes"), ("always", "yes")}
    return confirmed is not None and int(confirmed[0]) >= 1


def _sent(piece: Sequence[Write]) -> Callable[[Server], None]:
    def call(server: Server) -> None:
        pipe = server.client().pipeline(transaction=True)
        for write in piece:
            pipe.execute_command(*write)
        pipe.execute()

    return call


def _found(query: Query, value: Any) -> Any:
    """The value as it is; a key of another type is damage of that key alone, any other error one of the exchange."""
    if isinstance(value, redis.ResponseError) and "WRONGTYPE" in str(value):
        return StoreDamaged(f"{query.key} holds another type than belongs there. {DELETE_IT}")
    if isinstance(value, Exception):
        raise value
    return value


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
            case ListCount(key, items):
                out += ["items", key, items]
            case FieldCount(key, count):
                out += ["fields", key, count]
    return out


def _as_text(writes: Sequence[Write]) -> Iterable[Write]:
    """For a server without JSON: each try there would count as an error of its own."""
    for write in writes:
        if write[0] == "METRICS":
            _, shown, exact, text = write
            yield ("UNLINK", exact)
            yield ("SET", shown, text)
        else:
            yield write


def _encode_writes(writes: Iterable[Write]) -> Iterable[Argument]:
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
