"""`resonance-agent serve`: composes the sidecar and keeps it alive. Starts fast and depends on nothing.

The argument: while this container is down, the kubelet restarts no crashed app beside it. So nothing here ends the
process but SIGTERM: an unexpected error is logged and the loop goes on. SIGTERM is *waited for* in a thread of its own
(it stays blocked everywhere else), so that no handler runs inside a lock, and so that it is not ignored as the first
process of a container; that thread also ends the process when the last work takes too long.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from resonance import __version__
from resonance.agent.bell import Bell
from resonance.agent.endpoint import Endpoint
from resonance.agent.figures import Figures, Page
from resonance.agent.files import Claimed, Tmpfs
from resonance.agent.keeper import AppPort, Keeper
from resonance.agent.log import Log
from resonance.agent.patience import PatientStore
from resonance.agent.settings import Settings
from resonance.engine.session import Clock, Given, Now, Session
from resonance.model.claim import Host, SlotRecord
from resonance.model.report import Outcome, Report
from resonance.source import HttpSource
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.workload import Claim

END_WITHIN_S = 1.9
"""After SIGTERM: when the app outlived the grace period, the kubelet grants two seconds."""
_BIND_AGAIN_S = 5.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def _clock() -> Now:
    return Now(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)


def serve(settings: Settings, log: Log, *, port: int) -> int:
    """Run until SIGTERM. Returns 0."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    bell, figures = Bell(), Figures()
    finished = threading.Event()
    _thread("end", lambda: _await_end(bell, finished, log))
    page = Page(figures, lambda: _clock().steady_ms)
    within = settings.flush_within.total_seconds()
    _thread("http", lambda: _listen(port, bell, page, within, log))
    keeper = compose(settings, log, figures, _clock)
    log.info("serving", version=__version__, policy=settings.policy, workload=settings.workload, pod=settings.pod)
    while not bell.stopping:
        try:
            _turn(keeper, bell)
        except Exception as error:  # noqa: BLE001 - see the module: the process must not end
            log.unexpected("unexpected_error", error)
            bell.wait(1.0, flush_after=1.0)
    try:
        keeper.finish()
    except Exception as error:  # noqa: BLE001 - ended all the same
        log.unexpected("unexpected_error", error)
    finished.set()
    return 0


def _turn(keeper: Keeper, bell: Bell) -> None:
    ticket = bell.asked()
    if ticket and _clock().steady_ms >= keeper.flush_after:
        bell.answer(ticket, keeper.flush())
    wake = keeper.step()
    now = _clock().steady_ms
    bell.wait(max(0, wake - now) / 1000, flush_after=max(0, keeper.flush_after - now) / 1000)


def compose(settings: Settings, log: Log, figures: Figures, clock: Clock) -> Keeper:
    """Everything that one pod needs, from its settings and what the init hook left on tmpfs."""
    files = Tmpfs(settings.directory, log)
    claimed = files.claimed(settings.uid) or Claimed(settings.uid, None, 0, reserved=False, answer="Unknown")
    store = PatientStore(settings.store_directory, RedisKeyspace, clock)
    figures.restores[claimed.answer] += 1
    figures.restore_ms = claimed.restore_ms
    session = Session(
        store,
        settings.keys,
        settings.claimant,
        HttpSource(settings.source, timeout=settings.timeout, max_bytes=settings.max_bytes),
        clock,
        file=files,
        given=_given(settings, files, claimed),
        report=_report(settings, claimed),
    )
    door = AppPort(settings.source)
    return Keeper(settings, session, store, files, clock, door=door, log=log, figures=figures, claimed=claimed)


def _given(settings: Settings, files: Tmpfs, claimed: Claimed) -> Given:
    filed = files.filed()
    known = dict(claimed.restored) | ({filed.id: filed.commit} if filed is not None else {})
    lines = frozenset(claimed.lines) | ({filed.line} if filed is not None else frozenset())
    last_seq = max(claimed.last_seq, filed.seq if filed is not None else 0)
    taken = None
    if claimed.member is not None:
        record = SlotRecord(claimed.member, settings.uid, settings.pod, settings.template, claimed.epoch, claimed.epoch)
        taken = Claim(claimed.member, claimed.epoch, record, claimed.reserved)
    return Given(taken, known, last_seq, lines)


def _report(settings: Settings, claimed: Claimed) -> Report:
    return Report(
        outcome=Outcome.NOT_READY,
        message="no capture yet",
        uid=settings.uid,
        pod=settings.pod,
        node=settings.node,
        host=Host.AGENT,
        version=__version__,
        every_ms=int(settings.every.total_seconds() * 1000),
        restore=claimed.answer,
        restore_ms=claimed.restore_ms,
        restore_note=claimed.note,
    )


def _thread(name: str, run: Callable[[], None]) -> None:
    threading.Thread(target=run, name=name, daemon=True).start()


def _await_end(bell: Bell, finished: threading.Event, log: Log) -> None:
    signal.sigwait(_SIGNALS)
    bell.stop()
    if not finished.wait(END_WITHIN_S):
        log.error("ended", outcome=Outcome.TIMED_OUT, message="the last work took too long; the operator releases")
        os._exit(0)


def _listen(port: int, bell: Bell, page: Page, within: float, log: Log) -> None:
    while not bell.stopping:
        try:
            with Endpoint(port, bell, page, within) as endpoint:
                endpoint.serve_forever()
        except OSError as error:
            log.error("port_not_open", port=port, reason=error.strerror)
            time.sleep(_BIND_AGAIN_S)
