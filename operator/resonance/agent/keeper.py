"""The sidecar's loop, one step at a time: what is due is done, and the next step's time is returned.

Phases. *Running*: a capture an interval, as ``model.schedule`` decides. *Ending*, from a flush on: captures in quick
succession until the app's port closes. *Closed*: the app is gone, only its final file can still come. A flush need not
mean the end of the pod (a failed liveness probe calls the preStop hook too), so *ending* and *closed* go back to
*running* when the port opens again or the grace period has passed; only the end of the agent itself releases the
member.

A final file is committed once, and only if no capture was read after it appeared. It is taken as written by the process
of the last capture only if nothing else can have run since; otherwise it is committed as unproven, which keeps the head
as a tip.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from resonance.agent.bell import Flushed
from resonance.agent.figures import Figures
from resonance.agent.files import Claimed, Mark, Tmpfs
from resonance.agent.log import Log
from resonance.agent.patience import PatientStore
from resonance.agent.settings import Settings
from resonance.engine.session import Clock, Session
from resonance.model.claim import Identity
from resonance.model.errors import StoreError
from resonance.model.report import GOOD, Outcome, Report
from resonance.model.schedule import Capture, Observed, decide, offset_of, slowed_to
from resonance.model.units import show_duration
from resonance.store.workload import PolicyRecord

SECRET_MS = 2_000
SLOT_POLL_MS = 1_000
POLICY_POLL_MS = 10_000
"""However long the interval: a shorter one, a suspension or a deletion is heard within this."""
HEALTH_MS = 30_000
FINAL_MS = 500
FAST_MS = 500
_SAME_PROCESS_MS = 1_000
"""A container that ended is not running again within this time (measured: 1.2 s and more)."""

_NOT_READ = frozenset({Outcome.CAPTURE_FAILED, Outcome.NOT_READY, Outcome.NOT_UNDERSTOOD, Outcome.TOO_LARGE})
"""Outcomes of turns that did not get the app's state."""


class Phase(StrEnum):
    """See the module."""

    RUNNING = "running"
    ENDING = "ending"
    CLOSED = "closed"


class Door(Protocol):
    """Whether the app's port is open."""

    def is_open(self) -> bool: ...


class AppPort:
    """The port of the source's URL: one connection attempt."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def is_open(self) -> bool:
        """False only when the connection is refused: a slow app is not a closed one."""
        try:
            socket.create_connection(self._address, timeout=0.5).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


@dataclass
class _Due:
    """When each chore is due, steady ms."""

    secret: int = 0
    poll: int = 0
    health: int = 0
    final: int = 0
    fast: int = 0
    hand_over: int = 0


class Keeper:
    """Keeps one pod's state. Used by one thread."""

    def __init__(  # noqa: PLR0913 - a composition: each is a port or a value of its own
        self,
        settings: Settings,
        session: Session,
        store: PatientStore,
        files: Tmpfs,
        clock: Clock,
        *,
        door: Door,
        log: Log,
        figures: Figures,
        claimed: Claimed,
    ) -> None:
        self.phase = Phase.RUNNING
        self._settings = settings
        self._session = session
        self._store = store
        self._files = files
        self._door = door
        self._clock = clock
        self._log = log
        self._figures = figures
        self._claimed = claimed
        self._policy: PolicyRecord | None = None
        self._origin = self._now()
        self._due = _Due()
        self._started: int | None = None
        self._settled = False
        self._flush_began: int | None = None
        self._flushed = False
        self._final_saved = False
        self._last_good = Outcome.SAVED
        self._same_process_at: int | None = None
        self._spoken: tuple[str, ...] = ()
        self._store_spoken = ""

    def _now(self) -> int:
        return self._clock().steady_ms

    @property
    def _every(self) -> int:
        asked = self._policy.every_ms if self._policy is not None else 0
        return asked or int(self._settings.every.total_seconds() * 1000)

    @property
    def _offset(self) -> int:
        share = self._settings.jitter / self._settings.every
        return offset_of(f"{self._session.member or ''}/{self._settings.pod}", int(min(share, 1.0) * self._every))

    @property
    def _deleted(self) -> bool:
        return self._policy is not None and self._policy.deleted

    @property
    def _elsewhere(self) -> bool:
        cluster = self._policy.cluster if self._policy is not None else ""
        return bool(cluster and self._settings.cluster and cluster != self._settings.cluster)

    @property
    def flush_after(self) -> int:
        """Before this a flush waits a moment: calls in quick succession share a capture."""
        if self._flush_began is None or self._started is None:
            return self._now()
        return self._started + min(FAST_MS, max(100, 4 * self._session.capture_ms))

    def step(self) -> int:
        """Do what is due; returns when the next step is, steady ms."""
        now = self._now()
        if now >= self._due.secret:
            self._reread_secret()
            self._due.secret = now + SECRET_MS
        if now >= self._due.poll:
            self._poll()
        if now >= self._due.health:
            self._look_at_store()
        if self.phase is Phase.RUNNING:
            return min(self._run(now), self._due.secret, self._due.poll, self._due.health, self._due.final)
        return self._end(now)

    def _reread_secret(self) -> None:
        if self._store.refresh():
            self._log.warning("store_changed", store=self._store.address)
            self._session.lose_member()

    def _poll(self) -> bool:
        """Read what the operator and other pods say to us; True if a hand-over was captured for one of them.

        The store away: what was said last holds.
        """
        now = self._now()
        slot = self._settings.identity is Identity.SLOT
        self._due.poll = now + (SLOT_POLL_MS if slot else min(self._every, POLICY_POLL_MS))
        try:
            polled = self._session.poll()
        except StoreError:
            return False
        finally:
            self._say_store()
        self._heed(polled.policy)
        if polled.lost and not self._deleted:
            self._session.lose_member()
        if not polled.asked_to_hand_over or self._idle or now < self._due.hand_over:
            return False
        self._started = self._now()
        report = self._session.hand_over()
        self._due.hand_over = self._now() + max(SLOT_POLL_MS, 4 * self._session.capture_ms)
        self._log.info("hand_over_asked", member=self._session.member, outcome=report.outcome)
        self._concluded(report, self._started)
        return True

    def _heed(self, policy: PolicyRecord | None) -> None:
        before = self._policy
        self._policy = policy
        if (before is None) != (policy is None) or (before and policy and _said(before) != _said(policy)):
            self._session.report = replace(self._session.report, every_ms=self._every)
            said = _said(policy) if policy is not None else {}
            self._log.info("policy_heard", **said, otherCluster=self._elsewhere)

    @property
    def _idle(self) -> bool:
        """Nothing is captured and nothing said: the policy is gone, or the keys are another cluster's."""
        return self._deleted or self._elsewhere

    def _look_at_store(self) -> None:
        self._due.health = self._now() + HEALTH_MS
        try:
            facts = self._store.info()
        except StoreError:
            return
        finally:
            self._say_store()
        replicas = facts.get("connected_slaves", 0)
        self._session.replicas = replicas if isinstance(replicas, int) and facts.get("role") == "master" else 0

    def _say_store(self) -> None:
        """Log when the store goes and comes back, with host and reason."""
        failure = self._store.failure
        self._figures.store_up = failure is None
        text = str(failure) if failure is not None else ""
        if text == self._store_spoken:
            return
        self._store_spoken = text
        if failure is not None:
            self._log.error("store_away", message=text)
        else:
            self._log.info("store_back", store=self._store.address)

    # ------------------------------------------------------------------------------------------------------- running

    def _run(self, now: int) -> int:
        if now >= self._due.final:
            self._due.final = now + FINAL_MS
            if not self._idle and self._fresh_final() is not None and not self._door.is_open():
                self._commit_final()
        if self._idle:
            return now + self._every
        suspended = self._policy is not None and self._policy.suspend
        seen = Observed(
            now=now,
            every=self._every,
            origin=self._origin,
            offset=self._offset,
            started=self._started,
            took=self._session.capture_ms,
            settled=self._settled,
            suspended=suspended,
        )
        decision = decide(seen)
        if isinstance(decision, Capture):
            self._capture()
            return self._now()
        if suspended and now >= self._due.fast:
            self._due.fast = decision.until
            self._beat()
        return decision.until

    def _beat(self) -> None:
        """Suspended: say so, and nothing else."""
        self._poll()
        message = "spec.schedule.suspend is true; restores and the snapshots on shutdown go on."
        self._session.report = replace(self._session.report, outcome=Outcome.SUSPENDED, message=message)
        self._session.send_report()
        self._speak(Outcome.SUSPENDED, message)

    def _capture(self) -> Report:
        """One turn. The policy is read first, so that a suspended or deleted one is not captured against its will."""
        now = self._now()
        if self._started is None or now >= self._due.poll - SLOT_POLL_MS // 2:
            if self._poll() and self.phase is Phase.RUNNING:
                return self._session.report
            if self._idle or (self.phase is Phase.RUNNING and self._policy is not None and self._policy.suspend):
                self._started = now
                return self._session.report
        slowed = slowed_to(self._every, self._session.capture_ms)
        self._session.note = (
            f"a capture takes {show_duration(self._session.capture_ms)}, so the interval is {show_duration(slowed)} "
            f"and not {show_duration(self._every)}."
            if slowed is not None
            else ""
        )
        self._started = self._now()
        mark = self._files.final_mark()
        report = self._session.turn()
        if report.outcome not in _NOT_READ:
            self._same_process_at = self._started
            self._handled(mark)
        self._concluded(report, self._started)
        return report

    def _concluded(self, report: Report, began: int) -> None:
        """Count, say what is new, and keep the claim on tmpfs true."""
        if report.outcome not in _NOT_READ:
            self._settled = True
        if report.outcome is Outcome.CAPTURE_FAILED:
            self._settled = False  # the app may be starting again: ask soon
        good = self._session.good_at
        figures = self._figures
        figures.saves[report.outcome] += 1
        figures.fenced += report.outcome is Outcome.SUPERSEDED
        figures.took(report.duration_ms)
        figures.quarantined = bool(report.quarantined)
        figures.good_at_ms = good.steady_ms if good is not None else -1
        figures.gap_ms, figures.state_bytes = report.gap_ms, report.state_bytes
        if report.outcome in GOOD:
            self._last_good = report.outcome
        if report.outcome in GOOD and self._flush_began is not None and began >= self._flush_began:
            self._flushed = True
        self._say_store()
        self._speak(report.outcome, report.message)
        self._keep_claim()

    def _speak(self, outcome: Outcome, message: str) -> None:
        """One line when the outcome or its reason is another than before."""
        said = (outcome, message)
        if said == self._spoken or (outcome in GOOD and self._spoken[:1] and self._spoken[0] in GOOD and not message):
            return
        self._spoken = said
        report = self._session.report
        say = self._log.info if outcome in GOOD or outcome is Outcome.SUSPENDED else self._log.warning
        say("capture", outcome=outcome, message=message, member=self._session.member, snapshot=report.id)

    def _keep_claim(self) -> None:
        taken = self._session.claim
        if taken is None:
            return
        reserved = taken.reserved and self._session.good_at is None
        self._write_claim(replace(self._claimed, member=taken.member, epoch=taken.epoch, reserved=reserved))

    def _handled(self, mark: Mark | None) -> None:
        if mark is not None:
            self._write_claim(replace(self._claimed, final=mark))

    def _write_claim(self, claimed: Claimed) -> None:
        if claimed == self._claimed:
            return
        self._claimed = claimed
        try:
            self._files.claim(claimed)
        except OSError as error:
            self._log.error("claim_not_written", reason=error.strerror)

    # -------------------------------------------------------------------------------------------------------- ending

    def flush(self) -> Flushed:
        """A capture that begins now, for a preStop hook; from here on captures come quickly."""
        if self._idle:
            return Flushed(Outcome.SKIPPED, message="the policy is deleted, or its keys are another cluster's")
        if self.phase is Phase.RUNNING:
            self._log.info("flush_asked", member=self._session.member)
            self._flush_began, self._flushed, self._final_saved = self._now(), False, False
            self.phase = Phase.ENDING
            self._session.leaving = True
            self._store.try_now()
        report = self._capture()
        self._due.fast = self._now() + FAST_MS
        self._figures.flushes[Outcome.FLUSHED if report.outcome in GOOD else Outcome.TIMED_OUT] += 1
        if report.outcome in GOOD:
            return Flushed(Outcome.FLUSHED, report.id)
        return Flushed(report.outcome, report.id, report.message)

    def _end(self, now: int) -> int:
        began = self._flush_began or now
        if now - began > self._settings.grace.total_seconds() * 1000 + 5_000:
            return self._back_to_running()
        if now < self._due.fast:
            return self._due.fast
        if self.phase is Phase.ENDING:
            report = self._capture()
            if report.outcome is Outcome.CAPTURE_FAILED and not self._door.is_open():
                self.phase = Phase.CLOSED
                self._log.info("app_closed", member=self._session.member)
        if self.phase is Phase.CLOSED:
            if self._door.is_open():
                return self._back_to_running()
            self._nobody_else_ran()
            if self._fresh_final() is not None:
                self._commit_final()
        self._due.fast = self._now() + max(FAST_MS if self.phase is Phase.ENDING else 200, 4 * self._session.capture_ms)
        return self._due.fast

    def _back_to_running(self) -> int:
        self._log.info("app_goes_on", member=self._session.member)
        self.phase, self._flush_began, self._settled = Phase.RUNNING, None, False
        self._final_saved = False
        self._session.leaving = False
        return self._now()

    def _nobody_else_ran(self) -> None:
        """The port is still closed, looked at often enough that no other process can have come and gone."""
        now = self._now()
        if self._same_process_at is not None and now - self._same_process_at <= _SAME_PROCESS_MS:
            self._same_process_at = now

    def _fresh_final(self) -> Mark | None:
        mark = self._files.final_mark()
        return mark if mark != self._claimed.final else None

    def _commit_final(self) -> Outcome | None:
        """Commit the app's last words; None when there is nothing to commit."""
        mark = self._fresh_final()
        if mark is None:
            return None
        document = self._files.final_words(self._settings.max_bytes)
        if document is None:
            self._log.error("final_file_refused", message="it is larger than maxBytes or cannot be read", bytes=mark[2])
            self._handled(mark)
            return Outcome.TOO_LARGE
        now = self._now()
        same = self._same_process_at is not None and now - self._same_process_at <= _SAME_PROCESS_MS
        if not same:
            self._session.forget_process()
        report = self._session.commit_document(document)
        if report.outcome in GOOD or report.outcome not in {Outcome.STORE_AWAY, Outcome.CONFLICT}:
            self._handled(mark)
        self._final_saved = report.outcome in GOOD
        self._log.info("final_file", outcome=report.outcome, proven=same, snapshot=report.id, bytes=len(document))
        self._concluded(report, now)
        return report.outcome

    def finish(self) -> Outcome:
        """SIGTERM: the last capture if the app lives, the final file, the report, the release. Returns the outcome."""
        outcome = Outcome.SKIPPED
        self._session.leaving = True
        self._store.try_now()
        if not self._idle:
            outcome = self._last_words()
            self._session.report = replace(self._session.report, flush=outcome)
            if outcome in {Outcome.FINAL, Outcome.FLUSHED}:  # that its port is closed by now is as it should be
                self._session.report = replace(self._session.report, outcome=self._last_good, message="")
            self._session.send_report()
        self._figures.flushes[outcome] += 1
        try:
            self._session.release()
        except StoreError as error:
            self._log.warning("not_released", message=f"{error} The operator releases the member.")
        self._log.info("ended", outcome=outcome, member=self._session.member, snapshot=self._session.report.id)
        return outcome

    def _last_words(self) -> Outcome:
        asked = self._flush_began is not None
        lives = self._door.is_open()
        if lives:
            self._flush_began = self._flush_began or self._now()
            self._capture()
        else:
            self._nobody_else_ran()
        final = self._commit_final()
        if self._final_saved:
            return Outcome.FINAL
        if self._flushed and final is None:
            return Outcome.FLUSHED
        return Outcome.TIMED_OUT if asked or lives or final is not None else Outcome.SKIPPED


def _said(policy: PolicyRecord) -> dict[str, object]:
    """What of a policy changes how we behave."""
    return {"every_ms": policy.every_ms, "suspend": policy.suspend, "deleted": policy.deleted}
