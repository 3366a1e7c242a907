"""The end of a pod: what the app had when its hook was answered, or said last, is what the next pod starts with."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest

from resonance.model.report import GOOD
from tests.agent.pod import Pod, Store
from tests.apps.process import eventually
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis

RARELY = {"RESONANCE_EVERY": "1h"}


def test_a_flush_covers_the_state_at_its_call(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        for _ in range(5):
            app.ask("POST", "/tick?n=2")
            state = app.export().content
            answer = pod.flush()
            assert answer["outcome"] == "Flushed"
            assert store.state() == state
            assert store.head()["id"] == answer["id"]


def test_flushes_at_the_same_time_share_their_captures(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        app.ask("POST", "/tick")
        answers: list[dict[str, str]] = []
        callers = [threading.Thread(target=lambda: answers.append(pod.flush())) for _ in range(12)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert [answer["outcome"] for answer in answers] == ["Flushed"] * 12
        assert store.state() == app.export().content
        assert sum(count for name, count in pod.metrics().items() if "saves_total" in name) <= 6


def test_the_end_of_a_pod_saves_its_last_words_and_gives_the_member_back(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        app.ask("POST", "/tick?n=3")
        pod.flush()
        app.ask("POST", "/tick?n=3")
        state = app.export().content
        app.end()
        began = time.monotonic()
        assert pod.end_agent() == 0
        assert time.monotonic() - began < 2
        assert json.loads(pod.final_file.read_bytes()) == state
        assert store.state() == state
        assert pod.events("ended")[0]["outcome"] == "Final"
        report = store.report()
        assert report is not None
        assert report.flush == "Final"
        assert (store.slot()["holder"], store.slot()["committed"]) == (None, True)
        assert store.kept_tips() == 0


def test_changes_after_the_flush_are_captured_until_the_port_closes(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start("--no-final")
        pod.until_event("capture", outcome="Saved")
        pod.flush()
        app.ask("POST", "/tick?n=3")
        state = app.export().content
        store.until_saved(state)
        app.end()
        pod.until_event("app_closed")
        assert pod.end_agent() == 0
        assert pod.events("ended")[0]["outcome"] == "Flushed"
        assert store.state() == state
        report = store.report()
        assert report is not None
        assert (report.flush, report.outcome in GOOD, report.message) == ("Flushed", True, "")


def test_an_app_that_outlives_its_grace_period_is_captured_once_more(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        app.ask("POST", "/tick?n=3")
        began = time.monotonic()
        assert pod.end_agent() == 0
        assert time.monotonic() - began < 2
        assert store.state() == app.export().content
        assert pod.events("ended")[0]["outcome"] == "Flushed"


def test_a_hook_is_answered_within_its_bound_while_redis_hangs(own_redis: TlsRedis, namespace: str) -> None:
    store = Store(own_redis, namespace)
    with Pod(own_redis.secret, namespace, **RARELY, RESONANCE_GRACE="6") as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        own_redis.signal(signal.SIGSTOP)
        try:
            app.ask("POST", "/tick")
            began = time.monotonic()
            assert pod.flush()["outcome"] == "TimedOut"
            assert 1.9 < time.monotonic() - began < 3
            app.end()
            began = time.monotonic()
            assert pod.end_agent() == 0
            assert time.monotonic() - began < 2.5
            assert pod.events("ended")[0]["outcome"] == "TimedOut"
        finally:
            own_redis.signal(signal.SIGCONT)


def test_a_crash_in_place_releases_nothing(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        app.end(signal.SIGKILL)
        pod.until_event("capture", outcome="CaptureFailed")
        assert store.slot()["holder"] == pod.uid
        again = pod.start_app()
        again.ask("POST", "/tick")
        store.until_saved(again.export().content)


def test_a_liveness_kill_flushes_and_then_goes_on(redis: TlsRedis, namespace: str, store: Store) -> None:
    """The kubelet calls preStop for it too, but the pod stays."""
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        app.ask("POST", "/tick?n=2")
        pod.flush()
        state = app.export().content
        app.end()
        pod.until_event("final_file", proven=True)
        again = pod.start_app()
        assert again.export().content == state
        pod.until_event("app_goes_on")
        again.ask("POST", "/tick")
        store.until_saved(again.export().content)
        assert store.slot()["holder"] == pod.uid
        assert store.kept_tips() == 0


def test_an_app_that_ends_by_itself_is_restarted_from_its_last_words(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    """No hook is called: the final file is noticed, and given to the next process in place."""
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        app.ask("POST", "/tick?n=5")
        state = app.export().content
        app.end()
        pod.until_event("final_file")
        assert (store.state(), pod.file()) == (state, state)
        assert pod.start_app().export().content == state


def test_an_old_final_file_is_never_committed_over_newer_captures(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace) as pod:
        pod.start().end()
        pod.until_event("final_file")
        again = pod.start_app()
        again.ask("POST", "/tick?n=6")
        state = again.export().content
        store.until_saved(state)
        pod.end_agent(signal.SIGKILL)
        again.end(signal.SIGKILL)
        pod.serve()
        pod.until_event("capture", outcome="CaptureFailed")
        assert pod.end_agent() == 0
        assert store.state() == state
        assert len(pod.events("final_file")) == 1


def test_last_words_of_a_process_that_nobody_knows_keep_the_head_as_a_tip(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    """It ran and ended between two captures; whether it loaded its state nobody can say."""
    with Pod(redis.secret, namespace, **RARELY) as pod:
        app = pod.start("--no-final")
        pod.until_event("capture", outcome="Saved")
        state = app.export().content
        app.end(signal.SIGKILL)
        pod.end_agent(signal.SIGKILL)
        unknown = pod.start_app("--ignore-restore", "--nodes", "10")
        emptied = unknown.export().content
        unknown.end()
        pod.serve()
        pod.until_event("final_file", proven=False)
        assert store.state() == emptied
        assert store.kept_tips() == 1
        assert len(state["nodes"]) == 30


def test_a_pod_that_ends_before_its_app_began_releases_its_member(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace) as pod:
        assert pod.restore() == 0
        pod.serve()
        eventually(lambda: store.slot().get("holder") == pod.uid)
        assert pod.end_agent() == 0
        assert pod.events("ended")[0]["outcome"] == "Skipped"
        assert store.slot()["holder"] is None
