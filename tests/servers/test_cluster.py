"""A Cluster that reshards and loses a primary under load, and who may be on which node."""

from collections.abc import Iterator
from typing import Any

import pytest

from resonance.adapter import ResonanceStorageAdapter
from resonance.model.durability import Durability
from resonance.model.errors import InvalidInput, StoreBusy, StoreRefused
from resonance.model.naming import workload_keys
from resonance.store.connection import read_settings
from resonance.store.keyspace import Hash, Keyspace, Text
from resonance.store.member import Member
from resonance.store.redis_keyspace import RedisKeyspace
from tests.redis_server import TlsRedis
from tests.servers.load import Load
from tests.servers.places import TlsCluster, eventually

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def cluster() -> Iterator[TlsCluster]:
    """The first primary has a replica."""
    with TlsCluster(replicas=1) as running:
        yield running


@pytest.fixture
def keyspace(cluster: TlsCluster) -> Iterator[Keyspace]:
    made = RedisKeyspace(cluster.settings)
    yield made
    made.close()


def member_on(cluster: TlsCluster, node: int, beside: str) -> Member:
    """A member whose keys lie on this primary; ``beside`` keeps the tests' members apart."""
    for number in range(1000):
        keys = workload_keys("resonance", "shop", f"{beside}{number}", "StatefulSet.web")
        if cluster.owner(keys.slots) is cluster.primaries[node]:
            return Member("web-0", keys.member("web-0"), None)
    raise AssertionError("no such name")


def test_nothing_is_lost_while_its_slot_moves_from_node_to_node(cluster: TlsCluster, keyspace: Keyspace) -> None:
    member = member_on(cluster, 1, "moves")
    with Load(keyspace, member, level=Durability.MEMORY) as load:
        load.until_more(50)
        for node in (2, 0, 1):
            cluster.move(member.keys.head, cluster.primaries[node])
            assert cluster.owner(member.keys.head) is cluster.primaries[node]
            load.until_more(30)
    assert load.missing(Durability.MEMORY) == []
    assert {type(each) for each in load.failures} <= {StoreBusy}


def test_a_call_that_meets_a_half_moved_slot_is_refused_whole_or_follows(
    cluster: TlsCluster, keyspace: Keyspace
) -> None:
    """One key is already at the new node: alone it is found there, together with a key of the old node it is not."""
    moved, stays = "resonance:{half}:moved", "resonance:{half}:stays"
    assert keyspace.apply([], [("SET", moved, "1"), ("SET", stays, "2")]) is not None
    source = cluster.owner(moved)
    target = next(each for each in cluster.primaries if each is not source)
    with cluster.half_moved(moved, target):
        assert keyspace.read([Text(moved)]).text(0) == b"1"
        assert keyspace.apply([], [("SET", moved, "3")]) is not None
        keyspace.stage([("SETRANGE", moved, 1, b"4"), ("EXPIRE", moved, 600)])
        assert keyspace.read([Text(stays)]).text(0) == b"2"
        with pytest.raises(StoreBusy):
            keyspace.apply([], [("SET", moved, "5"), ("SET", stays, "6")])
    assert keyspace.read([Text(moved), Text(stays)]).values == (b"34", b"2")


def test_a_script_that_a_node_does_not_know_is_loaded_there(cluster: TlsCluster, keyspace: Keyspace) -> None:
    for each in cluster.primaries:
        each.admin().script_flush()
    for name in ("a", "b", "c", "d"):
        assert keyspace.apply([], [("SET", f"resonance:{{{name}}}", "1")]) is not None


def test_keys_of_several_nodes_are_refused_before_anything_is_sent(cluster: TlsCluster) -> None:
    with (
        ResonanceStorageAdapter(**login(cluster), prefix="resonance") as plain,
        pytest.raises(StoreRefused, match=r"prefix='\{resonance\}'"),
    ):
        plain.save_snapshot({"nodes": {"a": {}}})


def test_the_library_saves_and_restores_under_a_hash_tag() -> None:
    with (
        TlsCluster(prefix="{resonance}") as own,
        ResonanceStorageAdapter(**login(own), prefix="{resonance}") as adapter,
    ):
        adapter.save_snapshot({"nodes": {"a": {"phase": 1}}, "metrics": {"tick": 1}})
        assert adapter.restore_snapshot() == {"nodes": {"a": {"phase": 1}}, "metrics": {"tick": 1}}
        assert adapter.health_check().reachable


def login(place: TlsCluster) -> dict[str, Any]:
    """What the library is given."""
    secret = place.secret
    names = {"url": "url", "username": "username", "password": "password", "ca": "ca.crt"}
    return {name: secret[key] for name, key in names.items()}


def test_a_node_that_is_named_as_a_single_server_says_what_it_is(cluster: TlsCluster) -> None:
    keyspace = RedisKeyspace(cluster.changed({"url": f"rediss://localhost:{cluster.primaries[0].port}"}))
    elsewhere = member_on(cluster, 1, "single")
    with pytest.raises(StoreRefused, match=r"rediss\+cluster://"):
        keyspace.read([Hash(elsewhere.keys.head)])
    keyspace.close()


def test_a_single_server_that_is_named_as_a_cluster_says_so() -> None:
    with TlsRedis() as single:
        login = {"username": "admin", "password": single.admin_password}
        keyspace = RedisKeyspace(single.changed({"url": f"rediss+cluster://localhost:{single.port}", **login}))
        with pytest.raises(StoreRefused, match="no Cluster"):
            keyspace.read([Hash("resonance:{a}")])
        keyspace.close()


def test_every_snapshot_that_a_replica_confirmed_outlives_its_primary(cluster: TlsCluster, keyspace: Keyspace) -> None:
    """The last test of the module: a primary less is left."""
    member = member_on(cluster, 0, "lost")
    with Load(keyspace, member, level=Durability.REPLICA) as load:
        load.until_more(50, Durability.REPLICA)
        cluster.primaries[0].kill()
        eventually(lambda: cluster.owner(member.keys.head) is cluster.processes[3])
        load.until_more(5)
    assert load.failures
    assert load.missing(Durability.REPLICA) == []


def test_a_url_with_a_database_on_a_cluster_is_refused() -> None:
    with pytest.raises(InvalidInput, match="only database 0"):
        read_settings({"url": "rediss+cluster://localhost:1/3", "password": "x", "ca.crt": "BEGIN CERTIFICATE"})
