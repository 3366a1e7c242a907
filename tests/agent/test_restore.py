"""What a starting pod is given: its state, nothing because there never was any, or no start before we can tell."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.pod import Pod, Store
from tests.apps.process import eventually, free_port
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis


def saved(redis: TlsRedis, namespace: str, store: Store, *flags: str) -> dict[str, object]:
    """Let a first pod found a state and end; returns what it saved."""
    with Pod(redis.secret, namespace) as first:
        app = first.start(*flags)
        app.ask("POST", "/tick?n=3")
        state: dict[str, object] = app.export().content
        assert first.end() == 0
    assert store.state() == state
    return state


def test_the_first_start_of_a_member_is_empty(redis: TlsRedis, namespace: str) -> None:
    with Pod(redis.secret, namespace) as pod:
        pod.restore_file.write_text('{"nodes": {}, "snapshot": {"id": "left.1", "commit": "c", "epoch": 1}}')
        assert pod.restore() == 0
        assert pod.events("restore_done")[0]["outcome"] == "NeverExisted"
        assert not pod.restore_file.exists()


def test_the_next_pod_is_given_exactly_the_state_of_the_last(redis: TlsRedis, namespace: str, store: Store) -> None:
    state = saved(redis, namespace, store)
    with Pod(redis.secret, namespace) as pod:
        assert pod.restore() == 0
        assert pod.file() == state
        assert pod.restore_file.stat().st_mode & 0o777 == 0o644
        app = pod.start_app()
        assert app.export().content == state
        assert app.export().headers["Resonance-Restored-From"] == store.head()["id"]


def test_a_repeated_restore_of_the_same_pod_keeps_its_own_newer_file(redis: TlsRedis, namespace: str) -> None:
    """The sandbox was made again: init containers run twice, the tmpfs stays."""
    with Pod(redis.secret, namespace) as pod:
        app = pod.start()
        pod.until_event("capture", outcome="Saved")
        epoch = pod.events("restore_done")[0]["epoch"]
        pod.end_agent(signal.SIGKILL)
        assert pod.restore() == 0
        again = pod.events("restore_done")[1]
        assert (again["outcome"], again["epoch"]) == ("KeptFile", epoch)
        assert pod.file() == app.export().content


def test_a_pod_waits_while_redis_is_away_and_starts_with_its_state_when_it_is_back(
    own_redis: TlsRedis, namespace: str
) -> None:
    state = saved(own_redis, namespace, Store(own_redis, namespace))
    with Pod(own_redis.secret, namespace) as pod:
        own_redis.kill()
        waiting = pod.begin_restore()
        event = pod.until_event("restore_waits", why="StoreUnreachable")
        assert f"localhost:{own_redis.port}" in event["message"]
        assert not pod.restore_file.exists()
        own_redis.start()
        assert waiting.wait(15) == 0
        assert pod.file() == state


def test_a_pod_waits_for_a_missing_secret_and_reads_it_when_it_comes(redis: TlsRedis, namespace: str) -> None:
    with Pod({}, namespace) as pod:
        waiting = pod.begin_restore()
        pod.until_event("restore_waits", why="SecretMissing")
        pod.mount(redis.secret)
        assert waiting.wait(15) == 0


def test_the_end_of_a_waiting_pod_is_prompt(namespace: str) -> None:
    with Pod({}, namespace) as pod:
        waiting = pod.begin_restore()
        pod.until_event("restore_waits")
        began = time.monotonic()
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(5) == 143
        assert time.monotonic() - began < 1


def test_fail_ends_with_a_clear_message(redis: TlsRedis, namespace: str) -> None:
    url = {"url": f"rediss://localhost:{free_port()}"}
    with Pod({**redis.secret, **url}, namespace, RESONANCE_ON_UNKNOWN="Fail") as pod:
        assert pod.restore() == 1
        event = pod.events("restore_failed")[0]
        assert event["why"] == "StoreUnreachable"
        assert url["url"].removeprefix("rediss://") in event["message"]


def wrong(redis: TlsRedis) -> Iterator[tuple[dict[str, str], str]]:
    with TlsRedis() as other:
        yield {"password": "no"}, "check the Secret's username and password"
        yield {"ca.crt": other.secret["ca.crt"]}, "certificate verify failed"
        yield {"url": f"rediss://127.0.0.2:{redis.port}"}, "must name this host"
        yield {"url": f"redis://localhost:{redis.port}"}, "over TLS only"
        yield {"password": ""}, "Redis without AUTH is refused"
    with TlsRedis(plaintext=True) as plain:
        yield {"url": f"rediss://localhost:{plain.plain_port}"}, "TLS port"


def test_what_is_wrong_with_the_secret_is_said_with_its_remedy_and_no_secret(redis: TlsRedis, namespace: str) -> None:
    for change, remedy in wrong(redis):
        with Pod({**redis.secret, **change}, namespace, RESONANCE_ON_UNKNOWN="Fail") as pod:
            assert pod.restore() == 1
            assert remedy in pod.events("restore_failed")[0]["message"]
            assert redis.password not in pod.output()
            assert "BEGIN" not in pod.output()


def test_an_empty_start_that_was_asked_for_is_put_in_quarantine_and_never_replaces_the_head(
    own_redis: TlsRedis, namespace: str
) -> None:
    store = Store(own_redis, namespace)
    state = saved(own_redis, namespace, store)
    own_redis.kill()
    with Pod(own_redis.secret, namespace, RESONANCE_ON_UNKNOWN="StartEmpty") as pod:
        assert pod.restore() == 0
        assert pod.events("restore_done")[0]["outcome"] == "StartedEmpty"
        own_redis.start()
        pod.serve()
        pod.start_app()
        pod.until_event("capture", outcome="Quarantined")
        assert store.state() == state
        assert pod.metrics()["resonance_quarantined"] == 1
        assert pod.metrics()['resonance_restores_total{outcome="StartedEmpty"}'] == 1


def test_an_app_that_ignores_its_state_is_put_in_quarantine_and_the_file_stays_good(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    state = saved(redis, namespace, store)
    with Pod(redis.secret, namespace) as pod:
        pod.start("--ignore-restore", "--nodes", "10")
        pod.until_event("capture", outcome="Quarantined")
        assert store.state() == state
        assert pod.file() == state


def test_a_lost_head_is_not_taken_for_a_first_start(redis: TlsRedis, namespace: str, store: Store) -> None:
    saved(redis, namespace, store)
    keys = store.keys.member("web-0")
    store.admin.delete(keys.head, keys.snapshots, keys.kept)
    with Pod(redis.secret, namespace, RESONANCE_ON_UNKNOWN="Fail") as pod:
        assert pod.restore() == 1
        assert pod.events("restore_failed")[0]["why"] == "HeadLost"


def test_the_newest_listed_snapshot_is_given_where_only_the_head_is_lost(
    redis: TlsRedis, namespace: str, store: Store
) -> None:
    state = saved(redis, namespace, store)
    store.admin.delete(store.keys.member("web-0").head)
    with Pod(redis.secret, namespace, RESONANCE_ON_UNKNOWN="Fail") as pod:
        assert pod.restore() == 0
        assert pod.file() == state


def test_the_keys_of_another_cluster_are_not_touched(redis: TlsRedis, namespace: str, store: Store) -> None:
    saved(redis, namespace, store)
    store.say(cluster="elsewhere")
    before = store.slot()
    with Pod(redis.secret, namespace, RESONANCE_ON_UNKNOWN="StartEmpty") as pod:
        pod.start()
        pod.until_event("policy_heard", otherCluster=True)
        assert pod.flush()["outcome"] == "Skipped"
        assert store.slot() == before


def test_all_problems_of_the_environment_are_said_together(redis: TlsRedis, namespace: str) -> None:
    with Pod(redis.secret, namespace, RESONANCE_EVERY="soon", RESONANCE_IDENTITY="Some", RESONANCE_POLICY="") as pod:
        assert pod.restore() == 2
        text = " ".join(event["message"] for event in pod.events("environment_refused"))
        assert all(name in text for name in ("RESONANCE_EVERY", "'soon'", "RESONANCE_IDENTITY", "RESONANCE_POLICY"))


def test_a_megabyte_is_there_within_a_second(
    redis: TlsRedis, namespace: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(redis, namespace, store, "--nodes", "2000", "--bytes-per-node", "500")
    took = []
    for _ in range(10):
        with Pod(redis.secret, namespace) as pod:
            began = time.monotonic()
            assert pod.restore() == 0
            took.append(time.monotonic() - began)
            assert pod.events("restore_done")[0]["outcome"] == "Restored"
            assert Path(pod.restore_file).stat().st_size > 1_000_000
    with capsys.disabled():
        print(f"\nrestore of 1 MB, process start to end: median {statistics.median(took):.3f} s, max {max(took):.3f} s")
    assert sorted(took)[8] < 1.0


def test_a_slot_is_awaited_as_long_as_it_takes_and_the_wait_is_said(redis: TlsRedis, namespace: str) -> None:
    store = Store(redis, namespace, "Deployment.web")
    slots = {"RESONANCE_IDENTITY": "Slot", "RESONANCE_ON_UNKNOWN": "StartEmpty"}
    with Pod(redis.secret, namespace, name="web-x", workload="Deployment.web", **slots) as pod:
        waiting = pod.begin_restore()
        pod.until_event("restore_waits", why="WantedUnknown")
        said = eventually(lambda: store.admin.hget(store.keys.waiting, pod.uid))
        assert "WantedUnknown" in str(said)
        store.say(wanted=1, live=(pod.uid,))
        assert waiting.wait(15) == 0
        assert store.slot("slot-0")["holder"] == pod.uid
        assert store.admin.hget(store.keys.waiting, pod.uid) is None
