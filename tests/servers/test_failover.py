"""Sentinel's fail-over, planned and not, under load: what a replica confirmed is there, what was lost is told."""

from collections.abc import Iterator

import pytest

from resonance.codec import encode_state
from resonance.engine.session import Given, Now, Session
from resonance.model.claim import Claimant, Identity
from resonance.model.commit import Proof
from resonance.model.durability import Durability
from resonance.model.errors import StoreBusy
from resonance.model.naming import workload_keys
from resonance.model.report import Outcome, Report
from resonance.source import Export
from resonance.store.keyspace import Hash, Keyspace
from resonance.store.member import Member, load
from resonance.store.redis_keyspace import RedisKeyspace
from tests.servers.load import Load
from tests.servers.places import Process, TlsSentinel, eventually
from tests.store.test_member import MEMBER, newest, state

pytestmark = pytest.mark.redis


@pytest.fixture(params=[2])
def sentinel(request: pytest.FixtureRequest) -> Iterator[TlsSentinel]:
    """With two replicas, so that one is left to confirm when the other has become the primary."""
    with TlsSentinel(replicas=request.param) as running:
        yield running


alone = pytest.mark.parametrize("sentinel", [1], indirect=True)


@pytest.fixture
def keyspace(sentinel: TlsSentinel) -> Iterator[Keyspace]:
    made = RedisKeyspace(sentinel.settings)
    yield made
    made.close()


def test_every_snapshot_that_a_replica_confirmed_outlives_the_primary(
    sentinel: TlsSentinel, keyspace: Keyspace
) -> None:
    old = sentinel.primary()
    with Load(keyspace, MEMBER, level=Durability.REPLICA) as load_:
        load_.until_more(100, Durability.REPLICA)
        old.kill()
        load_.until_more(20, Durability.REPLICA)
    assert load_.missing(Durability.REPLICA) == []
    assert load_.failures
    assert sentinel.primary() is not old


@alone
def test_a_planned_fail_over_is_followed_although_the_old_primary_still_takes_writes(
    sentinel: TlsSentinel, keyspace: Keyspace
) -> None:
    """No replica confirms there any more, so the Sentinels are asked again."""
    old, new = sentinel.data
    with Load(keyspace, MEMBER, level=Durability.REPLICA) as load_:
        load_.until_more(20, Durability.REPLICA)
        sentinel.sentinels[0].admin().execute_command("SENTINEL", "FAILOVER", sentinel.NAME)
        eventually(lambda: new.admin().info("replication")["role"] == "master")
        at = head_of(new)
        eventually(lambda: head_of(new) > at + 3)
        assert head_of(old) < head_of(new)
    assert load_.missing(Durability.REPLICA) == []
    assert newest(keyspace) == load_.acknowledged[-1][1]


def head_of(process: Process) -> int:
    """The seq of the head as this process has it."""
    return int(process.admin().hget(MEMBER.keys.head, "seq"))


@alone
def test_a_replica_that_the_sentinels_still_take_for_the_primary_is_not_believed(sentinel: TlsSentinel) -> None:
    for each in sentinel.sentinels:
        monitor = ["SENTINEL", "MONITOR", "stale", "127.0.0.1", sentinel.data[1].port, 3]
        each.admin().execute_command(*monitor)
    keyspace = RedisKeyspace(sentinel.changed({"url": sentinel.url.replace("/web", "/stale")}))
    with pytest.raises(StoreBusy, match="fail-over is under way"):
        keyspace.read([Hash("resonance:{a}")])
    keyspace.close()


class App:
    """A process that exports what it is told."""

    def __init__(self) -> None:
        self.mark = 0

    def read(self, etag: str | None) -> Export:
        return Export(encode_state(state(30, self.mark)), Proof("p1", None), None)

    def close(self) -> None:
        """Nothing to close."""


@alone
def test_what_a_fail_over_lost_is_reported_and_the_state_is_saved_anew(
    sentinel: TlsSentinel, keyspace: Keyspace
) -> None:
    keys = workload_keys("resonance", "shop", "web", "StatefulSet.web")
    who = Claimant("uid", "web-0", "", Identity.POD_NAME, "web-0")
    said = Report(Outcome.SKIPPED, "", "uid", "web-0", "", "agent", "1", 1000)
    app = App()
    session = Session(keyspace, keys, who, app, lambda: Now(1, 1), file=None, given=Given(), report=said)
    for app.mark in range(3):
        assert session.turn().outcome is Outcome.SAVED
    old, replica = sentinel.data
    eventually(lambda: old.admin().wait(1, 100) == 1)
    replica.admin().config_set("masterauth", "wrong")  # from now on it lags for good
    replica.admin().client_kill_filter(_type="master")
    eventually(lambda: replica.admin().info("replication")["master_link_status"] == "down")
    for app.mark in range(3, 6):
        assert session.turn().outcome is Outcome.SAVED
    lost = session.report.id
    old.kill()
    eventually(lambda: replica.admin().info("replication")["role"] == "master")
    report = eventually(lambda: saved(session))
    assert report.lost_acknowledged == lost
    assert "lost acknowledged snapshots" in report.message
    member = Member("web-0", keys.member("web-0"), keys)
    told = Report.from_fields(replica.admin().hgetall(member.keys.report), where="report")
    assert told is not None
    assert told.lost_acknowledged == lost
    record = load(keyspace, member).record
    assert record.head is not None
    assert record.head.seq >= report.seq
    assert not record.kept
    assert session.turn().message == ""


def saved(session: Session) -> Report | None:
    """The report of a turn that saved."""
    report = session.turn()
    return report if report.outcome is Outcome.SAVED else None


@alone
def test_a_sentinel_that_is_down_is_passed_over(sentinel: TlsSentinel) -> None:
    sentinel.sentinels[0].kill()
    keyspace = RedisKeyspace(sentinel.settings)
    assert keyspace.apply([], [("SET", "resonance:{a}", "1")]) is not None
    keyspace.close()
