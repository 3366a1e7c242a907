"""The library's face: the same engine inside an app, without Kubernetes.

An app opens an adapter, restores, and saves; periodically and on exit if it likes. The guarantees are those of the
operator: a save is whole or absent, a second process that took over fences the first, a process that did not restore
never replaces what is there, and a restore is verified.

Deliberately not here: claims and slots, which need Kubernetes to say who is wanted.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import orjson
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from resonance.codec import encode_network, encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.durability import Durability
from resonance.model.errors import InvalidInput, ResonanceError, StateNotUnderstood, StoreDamaged, StoreError
from resonance.model.manifest import Manifest
from resonance.model.naming import DEFAULT_PREFIX, MemberKeys
from resonance.model.report import GOOD, Outcome
from resonance.store.connection import StoreSettings, read_secret_directory, read_settings
from resonance.store.health import Health, judge
from resonance.store.keyspace import Keyspace
from resonance.store.member import Member, load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import Restored, restore

log = logging.getLogger("resonance")

Network = Mapping[str, Any]
"""Kinds of id → object, and ``metrics``: one object."""
_CONFLICT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a save did. ``changed`` is False when the state was the newest snapshot already and nothing was written."""

    id: str
    seq: int
    taken_at: datetime
    state_bytes: int
    stored_bytes: int
    outcome: Outcome
    durability: Durability = Durability.MEMORY
    """The level that it has reached."""

    @property
    def changed(self) -> bool:
        return self.outcome is not Outcome.UNCHANGED


class NotSaved(ResonanceError):
    """The state was put aside or refused, because saving it would replace what must not be replaced.

    ``outcome`` is ``Quarantined`` (a snapshot exists and this process never restored it: call ``restore_snapshot``
    first) or ``Superseded`` (another process took over: this one must stop or open a new adapter). Retrying does not
    help.
    """

    def __init__(self, outcome: Outcome, message: str) -> None:
        self.outcome = outcome
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Whether saves can be expected to work and to last. ``reasons`` say what is wrong and what to do."""

    reachable: bool
    safe: bool
    round_trip_ms: float
    reasons: tuple[str, ...]


class _Figures:
    """The two metrics of the library, registered once per registry."""

    _known: ClassVar[WeakKeyDictionary[CollectorRegistry, _Figures]] = WeakKeyDictionary()

    def __init__(self, registry: CollectorRegistry) -> None:
        self.saves = Counter("resonance_snapshot_saves", "Snapshots by outcome.", ["outcome"], registry=registry)
        name = "resonance_snapshot_last_duration_ms"
        self.duration = Gauge(name, "What the last save took, in milliseconds.", registry=registry)

    @classmethod
    def of(cls, registry: CollectorRegistry) -> _Figures:
        if registry not in cls._known:
            cls._known[registry] = cls(registry)
        return cls._known[registry]


class ResonanceStorageAdapter:
    """Saves and restores one resonance network in a TLS Redis. Thread-safe. Use as a context manager or call ``close``.

    ``url`` is ``rediss://host[:port][/database]``, ``rediss+sentinel://s1,s2,s3/primary-name`` or
    ``rediss+cluster://h1,h2``; ``ca`` the PEM text of the CA that signed the certificates; ``prefix`` begins all keys:
    ``<prefix>:nodes``, ``<prefix>:snapshots``, … and on a Cluster has to be a hash tag: ``{resonance}``.
    ``durability`` is what each save waits for, at most half a second: when it is not reached, the save stands in
    memory and its outcome says so. ``password`` may be a function, asked again when a connection is made anew. Raises
    :class:`InvalidInput` for wrong settings; connects at the first call.
    """

    def __init__(  # noqa: PLR0913 - each is one setting of the library
        self,
        url: str,
        *,
        password: str | Callable[[], str],
        ca: str,
        username: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        prefix: str = DEFAULT_PREFIX,
        durability: Durability = Durability.MEMORY,
        max_bytes: int = 1 << 30,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        secret = {"url": url, "ca.crt": ca, "username": username or ""}
        secret |= {"tls.crt": certificate or "", "tls.key": key or ""}

        def settings() -> StoreSettings:
            return read_settings({**secret, "password": password() if callable(password) else password})

        self._open(RedisKeyspace(settings), prefix, max_bytes, registry, durability)

    @classmethod
    def from_secret(
        cls,
        directory: Path,
        *,
        prefix: str = DEFAULT_PREFIX,
        durability: Durability = Durability.MEMORY,
        registry: CollectorRegistry = REGISTRY,
    ) -> Self:
        """An adapter by the files of a mounted Secret (docs/redis.md), read again when a connection is made anew: a
        changed password or certificate needs no restart.
        """
        made = cls.__new__(cls)
        keyspace = RedisKeyspace(lambda: read_settings(read_secret_directory(directory)))
        made._open(keyspace, prefix, 1 << 30, registry, durability)  # noqa: SLF001 - an alternative constructor
        return made

    @classmethod
    def over(
        cls,
        keyspace: Keyspace,
        *,
        prefix: str = DEFAULT_PREFIX,
        durability: Durability = Durability.MEMORY,
        registry: CollectorRegistry = REGISTRY,
    ) -> Self:
        """An adapter over a keyspace that the caller made; it is closed with the adapter."""
        made = cls.__new__(cls)
        made._open(keyspace, prefix, 1 << 30, registry, durability)  # noqa: SLF001 - an alternative constructor
        return made

    def _open(
        self, keyspace: Keyspace, prefix: str, max_bytes: int, registry: CollectorRegistry, durability: Durability
    ) -> None:
        self._durability = durability
        self._keyspace = keyspace
        self._member = Member(prefix, MemberKeys(prefix))
        self._max_bytes = max_bytes
        self._figures = _Figures.of(registry)
        self._incarnation = uuid.uuid4().hex
        self._restored: Manifest | None = None
        self._writer: Writer | None = None
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._exit: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ saving
    def save_snapshot(self, state: Network) -> SnapshotInfo:
        """Make ``state`` the newest snapshot, as a whole or not at all.

        ``state`` maps each kind to a dict of id → dict, and ``metrics`` to one dict. Raises ``StateNotUnderstood``
        (NaN, an entry that is no object, …), :class:`NotSaved`, or a store error: after ``StoreUnreachable`` the
        snapshot may stand, and saving again is safe.
        """
        return self.save_document(encode_network(state))

    def save_document(self, document: bytes) -> SnapshotInfo:
        """The same for a state that is JSON already; numbers are kept to the very byte."""
        with self._lock:
            began = time.monotonic()
            try:
                info = self._save(document)
            except StoreError as error:
                self._figures.saves.labels("StoreAway").inc()
                log.warning("snapshot_not_saved", extra={"reason": str(error)})
                raise
            self._figures.duration.set((time.monotonic() - began) * 1000)
            self._figures.saves.labels(str(info.outcome)).inc()
            return info

    def _save(self, document: bytes) -> SnapshotInfo:
        writer = self._writer if self._writer is not None else self._begin()
        proof = Proof(self._incarnation, self._restored.id if self._restored is not None else None)
        outcome = Outcome.CONFLICT
        for _ in range(_CONFLICT_ATTEMPTS):
            writer.learn()
            capture = writer.prepare(document, proof, taken_at_ms=int(time.time() * 1000))
            written = writer.commit(capture, level=self._durability)
            if writer.loss is not None:
                log.error("acknowledged_snapshots_lost", extra={"reason": writer.loss.message})
                writer.loss = None
            if written.outcome in GOOD:
                writer.settle()
                each = written.manifest
                sizes = each.state_bytes, each.stored_bytes
                return SnapshotInfo(each.id, each.seq, each.taken_at, *sizes, written.outcome, written.durability)
            outcome = written.outcome
            if outcome is not Outcome.CONFLICT:
                break
        self._figures.saves.labels(str(outcome)).inc()
        raise NotSaved(outcome, _WHY.get(outcome, "another process saves at the same time; try again."))

    def _begin(self) -> Writer:
        seen = load(self._keyspace, self._member)
        head = seen.record.head
        files = {self._restored.id: self._restored.commit} if self._restored is not None else {}
        epoch = head.epoch + 1 if head is not None else 1
        self._writer = Writer(self._keyspace, self._member, uid=self._incarnation, pod="", epoch=epoch, files=files)
        return self._writer

    # --------------------------------------------------------------------------------------------------- restoring
    def restore_snapshot(
        self,
        into: MutableMapping[str, Any] | None = None,
        *,
        snapshot: str | None = None,
        seq: int | None = None,
        as_of: datetime | None = None,
    ) -> dict[str, Any] | None:
        """The newest intact snapshot as dicts, None when there has never been one; what it skips is logged.

        ``snapshot`` (an id) or ``seq`` asks for this one, ``as_of`` for the newest taken until then: when none
        matches, that is an :class:`InvalidInput`, never another one. With ``into`` the state is also merged into the
        caller's dicts: ids that the snapshot has are replaced, others stay. Raises store errors, and ``StoreDamaged``
        when nothing verifies.
        """
        with self._lock:
            seen = load(self._keyspace, self._member)
            if seen.record.head is None and seen.record.damage:
                raise StoreDamaged(f"{seen.record.damage[0]}, and no other record says what was saved.")
            if seen.record.head is None:
                return None
            found = restore(
                self._keyspace, self._member, seen, max_bytes=self._max_bytes, wanted=_wanted(snapshot, seq, as_of)
            )
            if found is None:
                raise _nothing(snapshot, seq, as_of)
            for text in found.skipped:
                log.warning("snapshot_skipped", extra={"reason": text})
            self._restored = found.manifest
            self._writer = None
            out = _decode(found)
            if into is not None:
                merge(into, out)
            return out

    # ------------------------------------------------------------------------------------------- health, life, exit
    def health_check(self) -> HealthCheck:
        """Ask the server how it is. Never raises: what is wrong is in the answer."""
        began = time.monotonic()
        try:
            health: Health = judge(self._keyspace.info())
        except StoreError as error:
            log.warning("store_not_reachable", extra={"reason": str(error)})
            return HealthCheck(reachable=False, safe=False, round_trip_ms=-1, reasons=(str(error),))
        took = (time.monotonic() - began) * 1000
        return HealthCheck(True, health.safe, took, tuple(each.message for each in health.findings))

    def save_every(self, every: timedelta, state: Callable[[], Network]) -> None:
        """Save what ``state()`` gives each ``every`` in a thread of its own, until ``close``. Failures are logged and
        counted.

        ``state`` is called in that thread: it must give a consistent view. One saving at a time; late ones coalesce.
        """
        if self._thread is not None:
            raise InvalidInput("save_every", every, "it is running already. Close the adapter first.")

        def run() -> None:
            while not self._stop.wait(every.total_seconds()):
                with contextlib.suppress(StoreError):  # logged and counted where it was raised
                    self._try_save(state)

        self._thread = threading.Thread(target=run, name="resonance-save", daemon=True)
        self._thread.start()

    def save_on_exit(self, state: Callable[[], Network]) -> None:
        """Save once more when the process ends: at exit, and on SIGTERM where nobody handles it yet."""
        if self._exit is not None:
            return

        def save() -> None:
            with contextlib.suppress(StoreError):
                self._try_save(state)

        self._exit = save
        atexit.register(save)
        handled = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        if threading.current_thread() is threading.main_thread() and not handled:
            signal.signal(signal.SIGTERM, _leave)

    def _try_save(self, state: Callable[[], Network]) -> None:
        try:
            self.save_snapshot(state())
        except (NotSaved, StateNotUnderstood) as error:
            log.error("snapshot_not_saved", extra={"reason": str(error)})

    def close(self) -> None:
        """Stop saving and close the connection. What was acknowledged stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._exit is not None:
            atexit.unregister(self._exit)
            self._exit = None
        self._keyspace.close()


_WHY = {
    Outcome.QUARANTINED: "a snapshot exists that this process never restored; call restore_snapshot first. "
    "The state was put aside.",
    Outcome.SUPERSEDED: "another process has taken over; this one's state was put aside. Open a new adapter to go on.",
}


def _leave(number: int, frame: FrameType | None) -> None:
    """End the main thread in order, so that what is registered at exit runs."""
    del frame
    raise SystemExit(128 + number)


def _wanted(snapshot: str | None, seq: int | None, as_of: datetime | None) -> Callable[[Manifest], bool] | None:
    if snapshot is None and seq is None and as_of is None:
        return None

    def wanted(each: Manifest) -> bool:
        named = (snapshot is None or each.id == snapshot) and (seq is None or each.seq == seq)
        return named and (as_of is None or each.taken_at <= as_of)

    return wanted


def _nothing(snapshot: str | None, seq: int | None, as_of: datetime | None) -> ResonanceError:
    if snapshot is not None:
        return InvalidInput("snapshot", snapshot, "no intact snapshot has this id. Name one that is kept.")
    if seq is not None:
        return InvalidInput("seq", seq, "no intact snapshot has this number. Name one that is kept.")
    if as_of is not None:
        return InvalidInput("as_of", as_of.isoformat(), "no intact snapshot is that old. Name a later time.")
    return StoreDamaged("snapshots exist but none verifies.")


def _decode(found: Restored) -> dict[str, Any]:
    out: dict[str, Any] = orjson.loads(encode_state(found.state))
    return out


def merge(into: MutableMapping[str, Any], state: Network) -> None:
    """Put ``state`` into the caller's dicts: ids that it has are replaced, others stay, missing kinds are made."""
    for kind, entries in state.items():
        target = into.get(kind)
        if isinstance(target, MutableMapping):
            target.update(entries)
        else:
            into[kind] = entries


class AsyncResonanceStorageAdapter:
    """The same for asyncio: each call runs in a thread, so that the loop goes on."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._adapter = ResonanceStorageAdapter(url, **settings)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def from_secret(cls, directory: Path, **settings: Any) -> Self:
        """See :meth:`ResonanceStorageAdapter.from_secret`."""
        made = cls.__new__(cls)
        made._adapter = ResonanceStorageAdapter.from_secret(directory, **settings)  # noqa: SLF001 - an alternative constructor
        made._task = None  # noqa: SLF001 - an alternative constructor
        return made

    @classmethod
    def over(cls, keyspace: Keyspace, **settings: Any) -> Self:
        """An adapter over a keyspace that the caller made."""
        made = cls.__new__(cls)
        made._adapter = ResonanceStorageAdapter.over(keyspace, **settings)  # noqa: SLF001 - an alternative constructor
        made._task = None  # noqa: SLF001 - an alternative constructor
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.close()

    async def save_snapshot(self, state: Network) -> SnapshotInfo:
        """See :meth:`ResonanceStorageAdapter.save_snapshot`. ``state`` is encoded before this yields."""
        document = encode_network(state)
        return await asyncio.to_thread(self._adapter.save_document, document)

    async def restore_snapshot(self, into: MutableMapping[str, Any] | None = None, **which: Any) -> Network | None:
        """See :meth:`ResonanceStorageAdapter.restore_snapshot`; the merge happens in the caller's loop."""
        found = await asyncio.to_thread(self._adapter.restore_snapshot, **which)
        if found is not None and into is not None:
            merge(into, found)
        return found

    async def health_check(self) -> HealthCheck:
        """See :meth:`ResonanceStorageAdapter.health_check`."""
        return await asyncio.to_thread(self._adapter.health_check)

    def save_every(self, every: timedelta, state: Callable[[], Network]) -> None:
        """Save each ``every`` until ``close``; ``state`` is called in the loop."""
        if self._task is not None:
            raise InvalidInput("save_every", every, "it is running already. Close the adapter first.")

        async def run() -> None:
            while True:
                await asyncio.sleep(every.total_seconds())
                try:
                    await self.save_snapshot(state())
                except ResonanceError as error:
                    log.error("snapshot_not_saved", extra={"reason": str(error)})

        self._task = asyncio.get_running_loop().create_task(run())

    def save_on_exit(self, state: Callable[[], Network]) -> None:
        """See :meth:`ResonanceStorageAdapter.save_on_exit`."""
        self._adapter.save_on_exit(state)

    async def close(self) -> None:
        """Stop saving and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._adapter.close)
