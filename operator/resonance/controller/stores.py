"""The Redis of each policy: opened by the Secret that the policy names, looked at again while in use.

A Secret is read by name, never listed, and its values stay in this module and in redis-py. When it changed, the
sessions go on with the new one: they hold a :class:`Store`, which passes every call to whatever connection is right
now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from resonance.model.acceptance import Said
from resonance.model.durability import Durability
from resonance.model.errors import InvalidInput, StoreError, StoreRefused, StoreUnreachable
from resonance.store.connection import StoreSettings, read_settings
from resonance.store.health import Health
from resonance.store.keyspace import Guard, Keyspace, Query, Reading, Write

REREAD_S = 30.0


class Secrets(Protocol):
    """Where Secrets are read."""

    async def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """Its decoded keys, None when there is none. Raises when the API server does not answer."""


class Store:
    """A :class:`resonance.store.keyspace.Keyspace` that can be given another connection while it is in use."""

    def __init__(self) -> None:
        self.address = ""
        self._inner: Keyspace | None = None

    def use(self, inner: Keyspace, address: str) -> None:
        """From now on go there."""
        before, self._inner, self.address = self._inner, inner, address
        if before is not None:
            before.close()

    def _now(self) -> Keyspace:
        if self._inner is None:
            raise StoreUnreachable("the store has not been opened yet")
        return self._inner

    def read(self, queries: Sequence[Query]) -> Reading:
        """As of one instant."""
        return self._now().read(queries)

    def apply(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """Guarded writes."""
        return self._now().apply(guards, writes)

    def stage(self, writes: Sequence[Write]) -> None:
        """Unguarded writes of staging keys."""
        self._now().stage(writes)

    def info(self) -> Mapping[str, object]:
        """What the server says of itself."""
        return self._now().info()

    def confirm(self, level: Durability, timeout_ms: int) -> Durability:
        """The level reached."""
        return self._now().confirm(level, timeout_ms)

    def close(self) -> None:
        """Give the connection back."""
        if self._inner is not None:
            self._inner.close()


@dataclass
class _Entry:
    store: Store = field(default_factory=Store)
    settings: StoreSettings | None = None
    read_at: float = float("-inf")
    trouble: Said | None = None
    health: Health | None = None


Open = Callable[[StoreSettings], Keyspace]


class Stores:
    """One :class:`Store` for each Secret in use; ``open_store`` makes one that connects at its first command."""

    def __init__(self, secrets: Secrets, open_store: Open, steady: Callable[[], float]) -> None:
        self._secrets = secrets
        self._open = open_store
        self._steady = steady
        self._entries: dict[tuple[str, str], _Entry] = {}

    async def get(self, namespace: str, name: str) -> Store | Said:
        """The policy's store, or why there is none. Raises nothing: an API server that is away leaves what is known."""
        entry = self._entries.setdefault((namespace, name), _Entry())
        if self._steady() - entry.read_at >= REREAD_S:
            await self._reread(entry, namespace, name)
        return entry.trouble if entry.trouble is not None else entry.store

    def distrust(self, namespace: str, name: str) -> None:
        """The store refused or is away: read the Secret again at the next use."""
        entry = self._entries.get((namespace, name))
        if entry is not None:
            entry.read_at = float("-inf")

    async def _reread(self, entry: _Entry, namespace: str, name: str) -> None:
        try:
            secret = await self._secrets.secret(namespace, name)
        except Exception as error:  # noqa: BLE001 - whatever the API client raises, what is known goes on
            if entry.settings is None:
                entry.trouble = Said("SecretUnreadable", f"Secret {name} could not be read: {error}.")
            return
        entry.read_at = self._steady()
        if secret is None:
            step = "create it with url, username, password and ca.crt, or correct spec.store.secretRef"
            entry.trouble = Said("SecretMissing", f"Secret {name} does not exist in namespace {namespace}; {step}.")
            return
        self._adopt(entry, name, secret)

    def _adopt(self, entry: _Entry, name: str, secret: Mapping[str, str]) -> None:
        try:
            settings = read_settings(secret)
            if settings != entry.settings:
                entry.store.use(self._open(settings), settings.address)
                entry.settings = settings
        except InvalidInput as error:
            entry.trouble = Said("SecretInvalid", f"Secret {name}: {error}")
            return
        except StoreRefused as error:
            entry.trouble = Said("SecretInvalid", f"Secret {name}: {error}")
            return
        entry.trouble = None

    def close(self) -> None:
        """Close every connection."""
        for entry in self._entries.values():
            entry.store.close()


def said_of(error: StoreError) -> Said:
    """A store error as a condition's reason and message."""
    return Said(type(error).__name__, f"{error} Snapshots stay in the pods meanwhile.")
