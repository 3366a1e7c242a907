"""Looking into Redis from outside: what a member's head is and which state stands there.

The argument: a test that asked the product's own reader would believe the product. So this reads the documented keys
with a plain client. The certificate is checked against the Secret's CA; only its host name is not, for the test comes
by the pod's address.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.apps.network import State

KINDS = ("fields", "nodes", "patterns")


@dataclass(frozen=True)
class Snapshot:
    """A head and the state that stands with it."""

    seq: int
    id: str
    line: str
    parent: str | None
    commit: str
    epoch: int
    owner: str
    state: State

    @property
    def tick(self) -> int:
        tick: int = self.state["metrics"]["tick"]
        return tick


class Records:
    """One Redis. ``address`` gives where it is now; a Redis that is away raises redis.RedisError or OSError."""

    def __init__(self, secret: Mapping[str, str], address: Callable[[], str]) -> None:
        self._secret = secret
        self._address = address
        self._known = ""
        self._client: redis.Redis | None = None

    @property
    def client(self) -> redis.Redis:
        """A client of the Redis at its present address, with the rights of the Secret's user."""
        address = self._address()
        if self._client is None or address != self._known:
            self.close()
            self._client = redis.Redis(
                host=address,
                port=6379,
                username=self._secret["username"],
                password=self._secret["password"],
                ssl=True,
                ssl_ca_data=self._secret["ca.crt"],
                ssl_check_hostname=False,
                socket_connect_timeout=2,
                socket_timeout=5,
                retry=Retry(NoBackoff(), 0),
                driver_info=None,
            )
            self._known = address
        return self._client

    def member(self, namespace: str, policy: str, workload: str, member: str) -> "Member":
        """The records of one member."""
        return Member(self, f"resonance:{{{namespace}/{policy}/{workload}}}", member)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


@dataclass(frozen=True)
class Member:
    """One member's keys, as docs describe them."""

    records: Records
    root: str
    name: str

    def snapshot(self) -> Snapshot | None:
        """The head and its state as of one instant, None when there is no head."""
        key = f"{self.root}:{self.name}"
        pipe: Any = self.records.client.pipeline(transaction=True)
        pipe.hgetall(f"{key}:head")
        for kind in KINDS:
            pipe.hgetall(f"{key}:{kind}")
        pipe.get(f"{key}:metrics")
        head, *kinds, metrics = pipe.execute()
        if not head:
            return None
        manifest = json.loads(head[b"manifest"])
        state: State = {
            kind: {name.decode(): json.loads(text) for name, text in found.items()}
            for kind, found in zip(KINDS, kinds, strict=True)
        }
        state["metrics"] = json.loads(metrics)
        return Snapshot(
            int(head[b"seq"]),
            head[b"id"].decode(),
            manifest["line"],
            manifest["parent"],
            manifest["commit"],
            int(head[b"epoch"]),
            head[b"owner"].decode(),
            state,
        )

    def newer(self, seq: int) -> Callable[[], Snapshot | None]:
        """Ask for a head after `seq`."""

        def ask() -> Snapshot | None:
            found = self.snapshot()
            return found if found is not None and found.seq > seq else None

        return ask

    def slot(self) -> dict[str, Any]:
        """The record of who holds the member; empty when there is none."""
        found: Any = self.records.client.hget(f"{self.root}:slots", self.name)
        return {} if found is None else dict(json.loads(found))

    def slots(self) -> dict[str, dict[str, Any]]:
        """All members of the workload."""
        found: Any = self.records.client.hgetall(f"{self.root}:slots")
        return {name.decode(): json.loads(text) for name, text in found.items()}

    def waiting(self) -> dict[str, dict[str, Any]]:
        """Which pods wait for a member, by uid."""
        found: Any = self.records.client.hgetall(f"{self.root}:waiting")
        return {uid.decode(): json.loads(text) for uid, text in found.items()}

    def manifests(self) -> list[dict[str, Any]]:
        """Every snapshot that is kept, newest first: id, seq, digest and so on."""
        found: Any = self.records.client.lrange(f"{self.root}:{self.name}:snapshots", 0, -1)
        return [json.loads(text) for text in found]

    def kept(self) -> list[dict[str, Any]]:
        """The snapshots that retention must not drop."""
        found: Any = self.records.client.hgetall(f"{self.root}:{self.name}:kept")
        return [json.loads(text) for text in found.values()]

    def report(self) -> dict[str, str]:
        """What the writer said last."""
        found: Any = self.records.client.hgetall(f"{self.root}:{self.name}:report")
        return {name.decode(): text.decode() for name, text in found.items()}

    def tip(self, uid: str) -> dict[str, Any] | None:
        """The manifest of what a superseded pod keeps aside, None when there is nothing."""
        found: Any = self.records.client.hget(f"{self.root}:{self.name}:tip:{uid}", "manifest")
        return None if found is None else dict(json.loads(found))
