"""`resonance-agent restore`: before the app's first instruction, its state or a clear reason why not.

The loop asks until there is an answer: claim a member, wait a while for the one who holds it to flush, then give what
the store has. "Cannot tell" is never taken for "never existed": ``restore.onUnknown`` decides, and ``Wait`` waits for
ever, reading the Secret again each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resonance.agent.files import Claimed, Tmpfs
from resonance.agent.log import Log
from resonance.agent.settings import Settings
from resonance.engine.starting import Start, ask, give
from resonance.model.claim import Wait
from resonance.model.errors import InvalidInput, StoreDamaged, StoreError
from resonance.model.restore import CannotTell, Give, KeepFile, LocalFile, OnUnknown, Unknown
from resonance.model.schedule import retry_delay
from resonance.store.connection import read_secret_directory, read_settings
from resonance.store.keyspace import Keyspace
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.workload import Claim, claim, say_waiting, stop_waiting

ANSWER_WITHIN_MS = 10_000
"""How long the pod that holds our member has for its last commit; then we start from what there is."""
_ANSWER_POLL_S = 0.2
_FIRST_RETRY_MS, _LONGEST_RETRY_MS = 200, 2_000
_REMIND_MS = 30_000

_WHY = {
    Unknown.HEAD_LOST: (
        "the member has committed before but its newest snapshot is gone from Redis (data loss or eviction). Restore "
        "Redis from its backup, or set restore.onUnknown: StartEmpty once."
    ),
    Unknown.NOTHING_VERIFIES: (
        "there are snapshots but none verifies against its digest. Restore Redis from its backup, or set "
        "restore.onUnknown: StartEmpty once."
    ),
    Unknown.OTHER_CLUSTER: (
        "the keys belong to another cluster that uses the same prefix. Give this cluster a store.prefix of its own."
    ),
}


@dataclass(frozen=True, slots=True)
class Unclear:
    """No answer this time. ``waits``: there will be one when a member is free; ``restore.onUnknown`` has no say."""

    why: str
    message: str
    waits: str = ""
    claim: Claim | None = None
    lines: frozenset[str] = frozenset()
    last_seq: int = 0


class Hook:
    """One run of the init container. ``pause`` sleeps; it and ``steady`` (ms) belong to the composition root."""

    def __init__(self, settings: Settings, log: Log, steady: Callable[[], int], pause: Callable[[float], None]) -> None:
        self._settings = settings
        self._log = log
        self._steady = steady
        self._pause = pause
        self._files = Tmpfs(settings.directory, log)
        self._secret: dict[str, str] = {}
        self._keyspace: Keyspace | None = None
        self._reserved_at: int | None = None
        self._said = False
        self._began = steady()

    def run(self) -> int:
        """The exit code: 0 the app may start, 1 ``restore.onUnknown`` is Fail and nobody can tell."""
        spoken, spoken_at, tries = "", 0, 0
        while True:
            found = self._ask()
            if isinstance(found, Start):
                self._conclude(found)
                return 0
            if not found.waits and self._settings.on_unknown is OnUnknown.FAIL:
                self._log.error("restore_failed", why=found.why, message=found.message, onUnknown="Fail")
                return 1
            if not found.waits and self._settings.on_unknown is OnUnknown.START_EMPTY:
                self._start_empty(found)
                return 0
            now = self._steady()
            if found.why != spoken or now - spoken_at >= _REMIND_MS:
                self._log.warning("restore_waits", why=found.why, message=found.message)
                spoken, spoken_at = found.why, now
                self._say(found.why)
            tries += 1
            self._pause(retry_delay(tries, first=_FIRST_RETRY_MS, most=_LONGEST_RETRY_MS) / 1000)

    def _ask(self) -> Start | Unclear:
        try:
            keyspace = self._connected()
        except InvalidInput as problem:
            return Unclear(Unknown.SECRET_MISSING, str(problem))
        if keyspace is None:
            where = self._settings.store_directory
            remedy = "create the Secret that spec.store.secretRef names; it is read again by itself"
            return Unclear(Unknown.SECRET_MISSING, f"the Secret is missing: nothing is mounted at {where}; {remedy}.")
        try:
            return self._start(keyspace)
        except StoreDamaged as error:
            return Unclear(Unknown.NOTHING_VERIFIES, str(error))
        except StoreError as error:
            return Unclear(Unknown.STORE_UNREACHABLE, str(error))

    def _connected(self) -> Keyspace | None:
        """A connection by the Secret as it is now, None when there is none. Raises :class:`InvalidInput`."""
        try:
            secret = read_secret_directory(self._settings.store_directory)
        except (OSError, UnicodeDecodeError):
            secret = {}
        if secret != self._secret or self._keyspace is None:
            self._secret = secret
            if self._keyspace is not None:
                self._keyspace.close()
            self._keyspace = None
            if secret:
                try:
                    self._keyspace = RedisKeyspace(read_settings(secret))
                except StoreError as error:
                    raise InvalidInput("secret key ca.crt", "…", str(error)) from error
        return self._keyspace

    def _start(self, keyspace: Keyspace) -> Start | Unclear:
        settings = self._settings
        taken = ask(keyspace, settings.keys, settings.claimant, cluster=settings.cluster)
        if isinstance(taken, Wait):
            return Unclear(taken.reason, f"no member is free yet: {taken.reason}. It is asked again.", taken.reason)
        if isinstance(taken, CannotTell):
            return Unclear(taken.why, _WHY[taken.why])
        taken = self._answered(keyspace, taken)
        start = give(keyspace, settings.keys, taken, file=self._local(), max_bytes=settings.max_bytes)
        if isinstance(start.answer, CannotTell):
            why = start.answer.why
            return Unclear(why, _WHY[why], claim=taken, lines=start.lines, last_seq=start.last_seq)
        return start

    def _answered(self, keyspace: Keyspace, taken: Claim) -> Claim:
        """The claim after the holder's last commit, or as it is when that takes too long."""
        if not taken.reserved:
            return taken
        if self._reserved_at is None:
            self._reserved_at = self._steady()
            self._log.info("waiting_for_hand_over", member=taken.member, holder=taken.record.pod)
        while not taken.answered and self._steady() - self._reserved_at < ANSWER_WITHIN_MS:
            self._pause(_ANSWER_POLL_S)
            again = claim(keyspace, self._settings.keys, self._settings.claimant)
            if isinstance(again, Wait):  # it was cleared; the next try asks from the beginning
                break
            taken = again
            if not taken.reserved:
                break
        if taken.reserved and not taken.answered:
            self._log.warning("hand_over_not_answered", member=taken.member, holder=taken.record.pod)
        return taken

    def _local(self) -> LocalFile | None:
        filed = self._files.filed()
        if filed is None or self._files.claimed(self._settings.uid) is None:
            return None
        return filed.local

    def _say(self, why: str) -> None:
        """Say in the store that this pod waits, where the store can be reached."""
        if self._keyspace is None or why in (Unknown.STORE_UNREACHABLE, Unknown.OTHER_CLUSTER):
            return
        try:
            say_waiting(self._keyspace, self._settings.keys, self._settings.uid, self._settings.pod, why)
            self._said = True
        except StoreError:
            return

    def _conclude(self, start: Start) -> None:
        match start.answer:
            case Give():
                self._files.give(start.document or b"")
                word = "Restored"
            case KeepFile():
                word = "KeptFile"
            case _:
                self._files.remove()
                word = "NeverExisted"
        claimed = self._record(word, start.claim, start.lines, start.last_seq, "; ".join(_skipped(start)))
        self._log.info(
            "restore_done",
            outcome=word,
            member=claimed.member,
            epoch=claimed.epoch,
            reserved=claimed.reserved,
            snapshot=next(iter(claimed.restored), None),
            used=start.restored.used if start.restored is not None else None,
            skipped=list(_skipped(start)),
            bytes=len(start.document or b""),
            ms=claimed.restore_ms,
        )

    def _start_empty(self, found: Unclear) -> None:
        """The policy says that an empty start is better than none; a file of this very pod is better still."""
        word = "KeptFile" if self._local() is not None else "StartedEmpty"
        if word == "StartedEmpty":
            self._files.remove()
        claimed = self._record(word, found.claim, found.lines, found.last_seq, f"{found.why}: {found.message}")
        self._log.warning(
            "restore_done",
            outcome=word,
            member=claimed.member,
            why=found.why,
            message=found.message,
            onUnknown="StartEmpty",
            ms=claimed.restore_ms,
        )

    def _record(self, word: str, taken: Claim | None, lines: frozenset[str], last_seq: int, note: str) -> Claimed:
        """Write the claim for the sidecar, and stop saying that we wait."""
        filed = self._files.filed()
        before = self._files.claimed(self._settings.uid)
        claimed = Claimed(
            uid=self._settings.uid,
            member=taken.member if taken is not None else None,
            epoch=taken.epoch if taken is not None else 0,
            reserved=taken.reserved if taken is not None else False,
            restored={filed.id: filed.commit} if filed is not None else {},
            lines=tuple(sorted(lines)),
            last_seq=max(last_seq, filed.seq if filed is not None else 0),
            answer=word,
            note=note[:1000],
            restore_ms=self._steady() - self._began,
            final=before.final if before is not None else None,
        )
        self._files.claim(claimed)
        if self._said and self._keyspace is not None:
            try:
                stop_waiting(self._keyspace, self._settings.keys, [self._settings.uid])
            except StoreError as error:
                self._log.warning("still_said_to_wait", message=str(error))
        return claimed


def _skipped(start: Start) -> tuple[str, ...]:
    """Newer snapshots that did not verify."""
    return start.restored.skipped if start.restored is not None else ()
