"""Which server answers for a key right now: the only one, the primary that the Sentinels name, or a Cluster's.

The argument: every call of the engine concerns the keys of one hash tag, so it is always one exchange with one server,
and finding that server is all that Sentinel and Cluster add. A redirection (``MOVED``, ``ASK``) says that nothing was
done, so following it is no retry. Whatever else goes wrong is not tried again here: the caller is told, and the next
call looks for the primary anew (:meth:`Servers.doubt`).

Each thread has a connection of its own to a server, so that ``WAIT`` is asked where the write was done; it answers for
nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from ssl import SSLContext
from typing import Any, Protocol
from weakref import WeakSet

import redis
from redis.crc import key_slot

from resonance.model.errors import StoreBusy, StoreError, StoreRefused, StoreUnreachable
from resonance.store.connection import Births, Login, StoreSettings, connect, translate
from resonance.store.place import Cluster, Node, Sentinels, Single


class Server:
    """One Redis process."""

    def __init__(
        self,
        node: Node,
        settings: StoreSettings,
        context: SSLContext,
        login: Login | None = None,
        *,
        greet: Callable[[Any], None] | None = None,
    ) -> None:
        self.node = node
        self.address = node.address
        self.json = True
        """It may have RedisJSON: nobody has found out otherwise."""
        self._settings = settings
        self._context = context
        self._login = login if login is not None else settings.login
        self._greet = greet
        self._mine = threading.local()
        self._all: WeakSet[redis.Redis] = WeakSet()
        self._lock = threading.Lock()

    def client(self) -> Any:
        """This thread's client: one connection, made at its first command."""
        found = getattr(self._mine, "client", None)
        if found is None:
            births = Births()
            database = self._settings.database if self._login is self._settings.login else 0
            found = connect(self.node, self._login, self._context, database=database, births=births, greet=self._greet)
            self._mine.client, self._mine.births, self._mine.wrote = found, births, 0
            with self._lock:
                self._all.add(found)
        return found

    def wrote(self) -> None:
        """This thread's connection has just written."""
        self._mine.wrote = self._mine.births.count

    def confirm(self, *command: str | int) -> Any:
        """Ask with the very connection that this thread wrote with; None when that one is gone. Raises redis-py's."""
        pool = self.client().connection_pool
        connection = pool.get_connection()
        try:
            if self._mine.births.count != self._mine.wrote:
                return None
            connection.send_command(*command)
            return connection.read_response()
        finally:
            pool.release(connection)

    def asking(self) -> None:
        """Say that the next command comes by an ``ASK`` redirection. Raises redis-py's errors."""
        pool = self.client().connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("ASKING")
            connection.read_response()
        finally:
            pool.release(connection)

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for client in list(self._all):
                client.close()
                client.connection_pool.disconnect()


class Servers(Protocol):
    """The servers of one place. Every method but ``doubt`` and ``close`` raises store errors."""

    def of(self, keys: Sequence[str]) -> Server:
        """The primary for these keys."""

    def at(self, node: Node) -> Server:
        """The server that a redirection named."""

    def primaries(self) -> Sequence[Server]:
        """Every primary."""

    def doubt(self) -> None:
        """A call failed, or a key has moved: look again before the next one."""

    def close(self) -> None:
        """Close all connections."""


def open_servers(settings: StoreSettings, context: SSLContext) -> Servers:
    """The servers of the settings' place; nothing connects before the first command."""
    match settings.place:
        case Single(node):
            return OneServer(Server(node, settings, context))
        case Sentinels() as place:
            return SentinelServers(place, settings, context)
        case Cluster() as place:
            return ClusterServers(place, settings, context)


class OneServer:
    """A place with one address."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def of(self, keys: Sequence[str]) -> Server:
        """Always the same."""
        del keys
        return self._server

    def at(self, node: Node) -> Server:
        """A node of a Cluster redirected us: the URL has to say that it is one."""
        remedy = "it is a node of a Cluster. Begin the Secret's url with rediss+cluster://"
        raise StoreRefused(f"Redis at {self._server.address} redirects to {node.address}: {remedy}.")

    def primaries(self) -> Sequence[Server]:
        """The one."""
        return [self._server]

    def doubt(self) -> None:
        """There is no other."""

    def close(self) -> None:
        """Close its connections."""
        self._server.close()


class _Known:
    """Servers by node, so that a primary which stays primary keeps its connections."""

    def __init__(self, make: Callable[[Node], Server]) -> None:
        self._make = make
        self._servers: dict[Node, Server] = {}
        self._lock = threading.Lock()

    def get(self, node: Node) -> Server:
        with self._lock:
            if node not in self._servers:
                self._servers[node] = self._make(node)
            return self._servers[node]

    def keep(self, nodes: Iterable[Node]) -> None:
        """Close what is not among these."""
        wanted = set(nodes)
        with self._lock:
            gone = [self._servers.pop(node) for node in list(self._servers) if node not in wanted]
        for server in gone:
            server.close()


class SentinelServers:
    """The primary that the Sentinels name. Of the first majority that answers, the newest configuration counts: a
    Sentinel that was cut off together with the old primary does not outvote the others.
    """

    def __init__(self, place: Sentinels, settings: StoreSettings, context: SSLContext) -> None:
        self._place = place
        login = settings.sentinel_login if settings.sentinel_login is not None else settings.login
        plain = StoreSettings(place, Login(None, ""), settings.ca)
        self._sentinels = [Server(node, plain, context, login) for node in place.nodes]
        self._known = _Known(lambda node: Server(node, settings, context, greet=_greet_primary))
        self._primary: Server | None = None

    def of(self, keys: Sequence[str]) -> Server:
        """The primary, asked for again after a doubt."""
        del keys
        found = self._primary
        if found is None:
            node = self._discover()
            found = self._primary = self._known.get(node)
            self._known.keep([node])
        return found

    def _discover(self) -> Node:
        answers: list[tuple[int, Node]] = []
        failures: list[StoreError] = []
        silent = 0
        for sentinel in self._sentinels:
            try:
                found = self._ask(sentinel)
            except StoreError as error:
                failures.append(error)
                continue
            silent += found is None
            if found is not None:
                answers.append(found)
            if len(answers) > len(self._sentinels) // 2:
                break
        if answers:
            return max(answers, key=lambda each: each[0])[1]
        if silent:
            name = self._place.primary
            raise StoreRefused(f"no Sentinel knows a primary {name!r}: check the name that ends the Secret's url.")
        refused = next((each for each in failures if isinstance(each, StoreRefused)), None)
        if refused is not None:
            raise refused
        raise StoreUnreachable(f"no Sentinel answers: {' '.join(str(each) for each in failures)}")

    def _ask(self, sentinel: Server) -> tuple[int, Node] | None:
        """(configuration epoch, primary) as this Sentinel knows it, None when it knows no such name."""
        try:
            raw = sentinel.client().execute_command("SENTINEL", "MASTER", self._place.primary)
        except redis.ResponseError as error:
            if "No such master" in str(error):
                return None
            raise translate(error, sentinel.address) from error
        except (redis.RedisError, OSError) as error:
            raise translate(error, sentinel.address) from error
        said = _pairs(raw)
        return int(said["config-epoch"]), Node(said["ip"], int(said["port"]))

    def at(self, node: Node) -> Server:
        """A Cluster behind Sentinels does not exist."""
        raise StoreRefused(f"{self._place.address} redirects to {node.address}: it is a Cluster, not Sentinel's.")

    def primaries(self) -> Sequence[Server]:
        """The one."""
        return [self.of(())]

    def doubt(self) -> None:
        """Ask the Sentinels again."""
        self._primary = None

    def close(self) -> None:
        """Close all connections."""
        for sentinel in self._sentinels:
            sentinel.close()
        self._known.keep(())


def _greet_primary(connection: Any) -> None:
    """Log in, and go no further when this is a replica by now: what it says may be old."""
    connection.on_connect()
    connection.send_command("INFO", "replication")
    text = connection.read_response()
    if b"role:master" not in (text if isinstance(text, bytes) else str(text).encode()):
        raise redis.exceptions.ReadOnlyError("READONLY the Sentinels' primary is a replica: a fail-over is under way")


def _pairs(raw: Any) -> Mapping[str, str]:
    """A reply of names and values, as RESP2 (a flat list) or RESP3 (a map) has it."""
    pairs = raw.items() if isinstance(raw, Mapping) else zip(raw[::2], raw[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(raw: bytes | str | int) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


class ClusterServers:
    """The primary of a hash slot, by the map that any node gives."""

    def __init__(self, place: Cluster, settings: StoreSettings, context: SSLContext) -> None:
        self._place = place
        self._known = _Known(lambda node: Server(node, settings, context))
        self._owners: list[tuple[int, int, Node]] = []
        self._others: tuple[Node, ...] = ()
        self._next = 0
        self._lock = threading.Lock()

    def of(self, keys: Sequence[str]) -> Server:
        """The owner of the slot that all keys share."""
        slots = {key_slot(key.encode()) for key in keys}
        if len(slots) > 1:
            remedy = "on a Cluster the library's prefix has to be a hash tag: prefix='{resonance}'"
            raise StoreRefused(f"the keys {', '.join(sorted(keys)[:3])} … lie on several nodes; {remedy}.")
        slot = slots.pop() if slots else 0
        for first, last, node in self._map():
            if first <= slot <= last:
                return self._known.get(node)
        self.doubt()
        raise StoreBusy(f"{self._place.address} cannot serve this now: no node serves hash slot {slot}.")

    def _map(self) -> list[tuple[int, int, Node]]:
        with self._lock:
            if not self._owners:
                self._owners = self._learn()
            return self._owners

    def _learn(self) -> list[tuple[int, int, Node]]:
        """Ask one node after the other, beginning with the next each time: one that was cut off is not asked for
        ever.
        """
        nodes = list(dict.fromkeys((*self._place.nodes, *self._others)))
        failures: list[StoreError] = []
        for step in range(len(nodes)):
            server = self._known.get(nodes[(self._next + step) % len(nodes)])
            try:
                raw = server.client().execute_command("CLUSTER", "SLOTS")
            except (redis.RedisError, OSError) as error:
                failures.append(_no_cluster(error, server.address) or translate(error, server.address))
                continue
            self._next = (self._next + step + 1) % len(nodes)
            owners = [(int(first), int(last), _node(nodes[0], server)) for first, last, *nodes in raw]
            self._others = tuple(dict.fromkeys(_node(each, server) for _, _, *group in raw for each in group))
            self._known.keep((*self._place.nodes, *self._others))
            return owners
        refused = next((each for each in failures if isinstance(each, StoreRefused)), None)
        if refused is not None:
            raise refused
        raise StoreUnreachable(f"no node of the Cluster answers: {' '.join(str(each) for each in failures)}")

    def at(self, node: Node) -> Server:
        """The node of a redirection."""
        return self._known.get(node)

    def primaries(self) -> Sequence[Server]:
        """Every owner of a slot."""
        return [self._known.get(node) for node in dict.fromkeys(node for _, _, node in self._map())]

    def doubt(self) -> None:
        """Ask for the map again."""
        with self._lock:
            self._owners = []

    def close(self) -> None:
        """Close all connections."""
        self._known.keep(())


def _no_cluster(error: Exception, address: str) -> StoreError | None:
    if "cluster support disabled" not in str(error):
        return None
    return StoreRefused(f"Redis at {address} is no Cluster. Begin the Secret's url with rediss:// and name one host.")


def _node(raw: Sequence[Any], asked: Server) -> Node:
    """A node of ``CLUSTER SLOTS``; without a host it is the one that was asked."""
    host = _text(raw[0]) if raw[0] else ""
    return Node(host if host not in {"", "?"} else asked.node.host, int(raw[1]))
