"""What the sidecar keeps while the app runs: every interval, through crashes, outages, rotations and other pods."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.agent.pod import Pod, Store
from tests.apps.process import eventually
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis


@contextlib.contextmanager
def trickling(port: int) -> Iterator[None]:
    """An app that sends its export one byte at a time."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    self.wfile.write(b" ")

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            server.shutdown()


def test_each_interval_the_newest_state_is_in_redis_and_in_the_file(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        for _ in range(2):
            app.ask("POST", "/tick?n=2")
            store.until_saved(app.export().content)
            assert pod.file() == app.export().content
        report = store.report()
        assert report is not None
        assert (report.uid, report.restore, report.proven) == (pod.uid, "NeverExisted", True)
        assert store.slot()["holder"] == pod.uid


def test_an_app_that_crashes_in_place_goes_on_from_the_file_without_redis(own_redis: TlsRedis, namespace: str) -> None:
    store = Store(own_redis, namespace)
    with Pod(own_redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        own_redis.kill()
        app.ask("POST", "/tick?n=5")
        state = app.export().content
        eventually(lambda: pod.file() == state)
        app.end(signal.SIGKILL)
        again = pod.start_app()
        assert again.export().content == state
        own_redis.start()
        again.ask("POST", "/tick")
        store.until_saved(again.export().content)
        assert store.kept_tips() == 0
        assert store.slot()["holder"] == pod.uid


def test_a_killed_sidecar_goes_on_with_the_same_claim(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        epoch = store.head()["epoch"]
        pod.end_agent(signal.SIGKILL)
        app.ask("POST", "/tick")
        pod.serve()
        store.until_saved(app.export().content)
        assert store.head()["epoch"] == epoch
        assert store.kept_tips() == 0


def test_an_app_restarted_while_the_sidecar_was_killed_still_continues_its_line(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        app.ask("POST", "/tick?n=3")
        store.until_saved(app.export().content)
        pod.end_agent(signal.SIGKILL)
        app.end(signal.SIGKILL)
        again = pod.start_app()
        pod.serve()
        again.ask("POST", "/tick")
        store.until_saved(again.export().content)
        assert store.kept_tips() == 0


def test_captures_go_on_while_redis_hangs_and_the_newest_is_saved_when_it_is_back(
    own_redis: TlsRedis, namespace: str
) -> None:
    store = Store(own_redis, namespace)
    with Pod(own_redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        own_redis.signal(signal.SIGSTOP)
        try:
            pod.until_event("capture", outcome="StoreAway")
            app.ask("POST", "/tick")
            changed = app.export().content
            eventually(lambda: pod.file() == changed)
            assert pod.metrics()["resonance_store_up"] == 0
        finally:
            own_redis.signal(signal.SIGCONT)
        store.until_saved(changed)
        assert f"localhost:{own_redis.port}" in pod.events("store_away")[0]["message"]
        pod.until_event("store_back")


def test_a_rotated_password_is_used_without_a_restart(own_redis: TlsRedis, namespace: str) -> None:
    store = Store(own_redis, namespace)
    with Pod(own_redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        store.admin.acl_setuser("resonance", enabled=True, passwords=["+another-password"], reset_passwords=True)
        for client in store.admin.client_list():
            if client["user"] == "resonance":
                store.admin.client_kill(client["addr"])
        refused = pod.until_event("capture", outcome="StoreAway")
        assert "username and password" in refused["message"]
        pod.mount({**own_redis.secret, "password": "another-password"})
        pod.until_event("store_back")
        app.ask("POST", "/tick")
        seen = app.export().content
        eventually(lambda: pod.file() == seen)
        eventually(lambda: pod.metrics()["resonance_snapshot_age_seconds"] < 1)
        assert "another-password" not in pod.output()


def test_a_broken_certificate_in_the_secret_never_ends_the_sidecar(own_redis: TlsRedis, namespace: str) -> None:
    store = Store(own_redis, namespace)
    with Pod(own_redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        for broken in ({"ca.crt": "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"}, {"url": "x"}):
            pod.mount({**own_redis.secret, **broken})
            eventually(lambda: pod.metrics()["resonance_store_up"] == 0)
        pod.mount({})
        pod.until_event("capture", outcome="StoreAway")
        pod.mount(own_redis.secret)
        app.ask("POST", "/tick")
        store.until_saved(app.export().content)


def test_the_old_pod_of_a_member_is_fenced_and_goes_on_aside(redis: TlsRedis, namespace: str, store: Store) -> None:
    """A node was cut off: the same name runs twice."""
    with Pod(redis.secret, namespace) as old, Pod(redis.secret, namespace) as new:
        zombie = old.start("--bytes-per-node", "100")
        store.until_saved(zombie.export().content)
        heir = new.start()
        heir.ask("POST", "/tick?n=7")
        store.until_saved(heir.export().content)
        zombie.ask("POST", "/tick?n=2")
        old.until_event("capture", outcome="Superseded")
        eventually(lambda: store.admin.exists(store.keys.member("web-0").tip(old.uid)) == 1)
        eventually(lambda: old.metrics()["resonance_fenced_total"] >= 2)
        assert store.state() == heir.export().content
        report = store.report()
        assert report is not None
        assert report.uid == new.uid
        assert old.end() == 0
        assert store.slot()["holder"] == new.uid
        report = store.report()
        assert report is not None
        assert report.uid == new.uid


def test_a_suspended_policy_beats_and_saves_nothing_but_a_shutdown(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    store.say(suspend=True)
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Suspended")

        def beaten() -> bool:
            report = store.report()
            return report is not None and report.outcome == "Suspended"

        eventually(beaten)
        assert store.state() == {}
        assert pod.flush()["outcome"] == "Flushed"
        assert store.state() == app.export().content


def test_a_suspension_that_ends_is_noticed(redis: TlsRedis, namespace: str, store: Store) -> None:
    store.say(suspend=True)
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Suspended")
        store.say()
        store.until_saved(app.export().content)


def test_a_deleted_policy_stops_the_captures_and_its_return_starts_them(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        store.until_saved(app.export().content)
        store.say(deleted=True)
        pod.until_event("policy_heard", deleted=True)
        head = store.head()
        app.ask("POST", "/tick")
        assert pod.flush()["outcome"] == "Skipped"
        assert store.head() == head
        store.say()
        store.until_saved(app.export().content)


def test_the_operator_can_change_the_interval_of_a_running_pod(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace, RESONANCE_EVERY="1h") as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        pod.end_agent(signal.SIGKILL)
        store.say(every_ms=1000)
        pod.serve()
        pod.until_event("policy_heard", every_ms=1000)
        app.ask("POST", "/tick")
        store.until_saved(app.export().content)


def test_a_state_larger_than_max_bytes_is_refused_and_nothing_is_cut(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    with Pod(redis.secret, namespace, RESONANCE_MAX_BYTES="64Ki") as pod:
        app = pod.start()
        small = app.export().content
        store.until_saved(small)
        app.ask("POST", "/set", {"ballast": "x" * 70_000})
        event = pod.until_event("capture", outcome="StateTooLarge")
        assert "maxBytes" in event["message"]
        assert (store.state(), pod.file()) == (small, small)
        assert pod.metrics()['resonance_snapshot_saves_total{outcome="StateTooLarge"}'] >= 1


def test_an_unchanged_state_costs_no_snapshot(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace) as pod:
        pod.start()
        eventually(lambda: pod.metrics().get('resonance_snapshot_saves_total{outcome="Unchanged"}', 0) >= 2)
        assert store.head()["seq"] == "1"
        assert pod.metrics()["resonance_snapshot_age_seconds"] < 3


def test_a_newcomer_gets_what_the_holder_flushed_for_it(redis: TlsRedis, namespace: str) -> None:
    """A roll-out with surge: the new pod takes the slot over while the old one still runs."""
    store = Store(redis, namespace, "Deployment.web")
    slots = {"RESONANCE_IDENTITY": "Slot", "RESONANCE_EVERY": "1h"}
    old = Pod(redis.secret, namespace, name="web-old", workload="Deployment.web", **slots)
    new = Pod(redis.secret, namespace, name="web-new", workload="Deployment.web", **slots, RESONANCE_TEMPLATE="t2")
    with old, new:
        store.say(wanted=1, every_ms=3_600_000, live=(old.uid, new.uid))
        app = old.start()
        old.until_event("capture", outcome="Saved")
        app.ask("POST", "/tick?n=4")  # no interval is due: only the hand-over can save this
        state = app.export().content
        assert new.restore() == 0
        assert new.file() == state
        assert store.slot("slot-0")["holder"] == old.uid
        new.serve()
        heir = new.start_app()
        new.until_event("capture", outcome="Saved")
        heir.ask("POST", "/tick")
        assert new.flush()["outcome"] == "Flushed"
        assert store.slot("slot-0")["holder"] == new.uid
        app.ask("POST", "/tick?n=9")
        assert old.flush()["outcome"] == "Superseded"
        app.end()
        assert old.end_agent() == 0
        assert store.slot("slot-0")["holder"] == new.uid
        assert store.state("slot-0") == heir.export().content


def test_an_app_without_headers_keeps_a_tip_at_each_reconnect(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start("--no-proof-headers")
        for _ in range(2):
            app.ask("POST", "/tick")
            store.until_saved(app.export().content)
        assert store.kept_tips() == 0
        app.end(signal.SIGKILL)
        again = pod.start_app("--no-proof-headers")
        again.ask("POST", "/tick")
        store.until_saved(again.export().content)
        assert store.kept_tips() == 1
        report = store.report()
        assert report is not None
        assert not report.proven


def test_the_port_being_taken_does_not_stop_the_captures(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace) as first, Pod(redis.secret, namespace, name="web-1") as second:
        first.start()
        second.agent_port = first.agent_port
        assert second.restore() == 0
        second.serve()
        app = second.start_app()
        second.until_event("port_not_open")
        store.until_saved(app.export().content, "web-1")


def test_a_sidecar_with_nothing_to_do_sleeps(redis: TlsRedis, namespace: str, store: Store) -> None:
    with Pod(redis.secret, namespace) as pod:
        pod.start()
        pod.until_event("capture", outcome="Saved")
        for deleted in (False, True):
            store.say(deleted=deleted, every_ms=1000)
            pod.until_event("policy_heard", deleted=deleted)
            began, used = time.monotonic(), pod.cpu_seconds()
            eventually(lambda since=began: time.monotonic() - since > 2)  # type: ignore[misc]
            assert pod.cpu_seconds() - used < 0.5


def test_an_export_that_trickles_is_given_up_in_time(redis: TlsRedis, namespace: str) -> None:
    with Pod(redis.secret, namespace, RESONANCE_TIMEOUT="1s") as pod, trickling(pod.app_port):
        assert pod.restore() == 0
        pod.serve()
        event = pod.until_event("capture", outcome="CaptureFailed")
        assert "timed out after 1 s" in event["message"]


def test_the_sidecar_is_small(
    redis: TlsRedis, namespace: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with Pod(redis.secret, namespace) as pod:
        app = pod.start("--nodes", "2000", "--bytes-per-node", "500", "--change-percent", "1")
        for _ in range(3):
            app.ask("POST", "/tick")
            store.until_saved(app.export().content)
        status = Path(f"/proc/{pod.agents[-1].pid}/status").read_text()
        sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("Rss")}
        with capsys.disabled():
            print(f"\nRSS of the sidecar with 1 MB of state: {sum(sizes.values()):.1f} MiB, {sizes}")
        assert sizes["RssAnon:"] < 64


def test_the_sidecar_answers_soon_after_its_start(namespace: str) -> None:
    with Pod({}, namespace) as pod:
        began = time.monotonic()
        pod.serve()
        assert time.monotonic() - began < 3
