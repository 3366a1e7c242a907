"""Where Redis is, as the Secret's ``url`` says it: one server, Sentinels that know the primary, or a Cluster.

rediss://host[:6379][/database]
rediss+sentinel://s1[:26379],s2[:26379],…/primary[/database]
rediss+cluster://h1[:6379],h2[:6379],…
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from resonance.model.errors import InvalidInput

_WHERE = "secret key url"
_PORT, _SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, slots=True)
class Node:
    """One process that listens."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """``host:port``, for messages."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Single:
    """One server, or a name that always leads to the primary."""

    node: Node
    database: int = 0

    @property
    def address(self) -> str:
        return self.node.address


@dataclass(frozen=True, slots=True)
class Sentinels:
    """``primary`` is the name under which the Sentinels watch it."""

    nodes: tuple[Node, ...]
    primary: str
    database: int = 0

    @property
    def address(self) -> str:
        return f"{self.primary} of Sentinel {','.join(each.address for each in self.nodes)}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Some nodes of it; the others are found by asking them."""

    nodes: tuple[Node, ...]
    database: int = 0

    @property
    def address(self) -> str:
        return f"Cluster {','.join(each.address for each in self.nodes)}"


Place = Single | Sentinels | Cluster


def read_place(url: str) -> Place:
    """Parse ``url``. Raises :class:`InvalidInput` with the value, without anything secret in it, and the remedy."""
    parts = urlsplit(url)
    if parts.scheme not in {"rediss", "rediss+sentinel", "rediss+cluster"}:
        remedy = "the store is reached over TLS only. Give a URL that begins with rediss://."
        raise InvalidInput(_WHERE, f"{parts.scheme}://…" if url else "", remedy)
    if "@" in parts.netloc:
        remedy = "put the user and password into the keys username and password."
        raise InvalidInput(_WHERE, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", remedy)
    path = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if parts.scheme == "rediss+sentinel":
        if not path:
            remedy = "the primary's name is missing. Try rediss+sentinel://s1:26379,s2:26379/primary-name."
            raise InvalidInput(_WHERE, url, remedy)
        return Sentinels(_nodes(parts, _SENTINEL_PORT), path[0], _database(path[1:], url))
    if parts.scheme == "rediss+cluster":
        if path and path != ["0"]:
            raise InvalidInput(_WHERE, url, "a Cluster has only database 0. Leave the number away.")
        return Cluster(_nodes(parts, _PORT))
    nodes = _nodes(parts, _PORT)
    if len(nodes) > 1:
        remedy = "several hosts are Sentinels or a Cluster. Begin with rediss+sentinel:// or rediss+cluster://."
        raise InvalidInput(_WHERE, url, remedy)
    return Single(nodes[0], _database(path, url))


def _nodes(parts: SplitResult, default_port: int) -> tuple[Node, ...]:
    out = []
    for each in parts.netloc.split(","):
        one = urlsplit(f"//{each.strip()}")
        try:
            port = one.port
        except ValueError as error:
            raise InvalidInput(_WHERE, each, "the port is a number from 1 to 65535. Try host:6379.") from error
        if not one.hostname:
            shown = f"{parts.scheme}://{parts.netloc}"
            raise InvalidInput(_WHERE, shown, "the host is missing. Try rediss://redis.example.svc:6379.")
        out.append(Node(one.hostname, port or default_port))
    return tuple(out)


def _database(path: list[str], url: str) -> int:
    if not path:
        return 0
    if len(path) > 1 or not path[0].isdigit():
        raise InvalidInput(_WHERE, url, "what ends it is a database number. Try /0.")
    return int(path[0])
