"""The same trust everywhere: who has the wrong authority, login or name is refused by Sentinels and nodes alike."""

from collections.abc import Iterator

import pytest
import trustme

from resonance.model.durability import Durability
from resonance.model.errors import InvalidInput, StoreError, StoreRefused, StoreUnreachable
from resonance.store.connection import StoreSettings, read_settings
from resonance.store.keyspace import Hash
from resonance.store.place import Cluster, Node, Sentinels, Single, read_place
from resonance.store.redis_keyspace import RedisKeyspace
from tests.redis_server import TlsRedis, free_port
from tests.servers.places import TlsCluster, TlsSentinel

PLACES = [
    ("rediss://redis", Single(Node("redis", 6379))),
    ("rediss://redis:7000/3", Single(Node("redis", 7000), 3)),
    ("rediss://[::1]:7000", Single(Node("::1", 7000))),
    ("rediss+sentinel://a,b:7000/web", Sentinels((Node("a", 26379), Node("b", 7000)), "web")),
    ("rediss+sentinel://a/web/2", Sentinels((Node("a", 26379),), "web", 2)),
    ("rediss+cluster://a,[fd00::1]:7000", Cluster((Node("a", 6379), Node("fd00::1", 7000)))),
    ("rediss+cluster://a/0", Cluster((Node("a", 6379),))),
]


@pytest.mark.parametrize(("url", "place"), PLACES, ids=[each[0] for each in PLACES])
def test_a_url_says_where(url: str, place: object) -> None:
    assert read_place(url) == place


WRONG = [
    ("redis+sentinel://a/web", "TLS only"),
    ("rediss+sentinel://a,b", "primary's name is missing"),
    ("rediss+sentinel://a,/web", "host is missing"),
    ("rediss+sentinel://a/web/x", "database number"),
    ("rediss+sentinel://u:secret@a/web", "keys username and password"),
    ("rediss+cluster://a/1", "only database 0"),
    ("rediss://a,b", "Sentinels or a Cluster"),
    ("rediss://a:99999", "port"),
    ("rediss://a:x", "port"),
]


@pytest.mark.parametrize(("url", "remedy"), WRONG, ids=[each[0] for each in WRONG])
def test_a_wrong_url_is_refused_with_the_remedy_and_without_a_secret(url: str, remedy: str) -> None:
    with pytest.raises(InvalidInput, match=remedy) as caught:
        read_place(url)
    assert "secret@" not in str(caught.value)


def refusal(settings: StoreSettings) -> StoreError:
    """The error of the first read."""
    keyspace = RedisKeyspace(settings)
    with pytest.raises(StoreError) as caught:
        keyspace.read([Hash("resonance:{a}")])
    keyspace.close()
    return caught.value


@pytest.mark.redis
def test_another_authority_is_refused_by_its_name(place: TlsSentinel | TlsCluster) -> None:
    error = refusal(place.changed({"ca.crt": trustme.CA().cert_pem.bytes().decode()}))
    assert type(error) is StoreRefused
    assert "certificate verify failed" in str(error)


@pytest.mark.redis
def test_a_wrong_password_is_refused_and_not_shown(place: TlsSentinel | TlsCluster) -> None:
    error = refusal(place.changed({"password": "wr0ng"}))
    assert type(error) is StoreRefused
    assert "username and password" in str(error)
    assert "wr0ng" not in str(error)


@pytest.mark.redis
def test_a_place_where_nobody_answers_is_away(place: TlsSentinel | TlsCluster) -> None:
    ports = [str(each.port) for each in place.processes]
    url = place.url
    for port in ports:
        url = url.replace(port, str(free_port()))
    assert type(refusal(place.changed({"url": url}))) is StoreUnreachable


@pytest.fixture(scope="module")
def sentinel() -> Iterator[TlsSentinel]:
    with TlsSentinel(replicas=0) as running:
        yield running


@pytest.mark.redis
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sentinel.password": "wr0ng"}, "username and password"),
        ({"sentinel.username": "", "sentinel.password": ""}, "username and password"),
        ({"url": "/other"}, "no Sentinel knows a primary 'other'"),
    ],
    ids=["a wrong password", "no login of its own", "another name"],
)
def test_sentinels_want_their_own_login_and_know_names(
    sentinel: TlsSentinel, changes: dict[str, str], words: str
) -> None:
    if "url" in changes:
        changes = {"url": sentinel.url.replace("/web", changes["url"])}
    error = refusal(sentinel.changed(changes))
    assert type(error) is StoreRefused
    assert words in str(error)


@pytest.mark.redis
def test_the_disk_confirms_where_we_may_see_that_it_does() -> None:
    """Redis 7.0 knows no WAITAOF; that ``appendfsync always`` holds shows only to who may look."""
    with TlsRedis(options=["--appendfsync", "always"]) as server:
        for rights, reached in (("", Durability.MEMORY), ("+config|get", Durability.FSYNC)):
            if rights:
                server.admin().acl_setuser("resonance", enabled=True, commands=[rights])
            keyspace = RedisKeyspace(server.settings)
            assert keyspace.confirm(Durability.FSYNC, 100) is Durability.MEMORY
            keyspace.apply([], [("SET", "resonance:{a}", "1")])
            assert keyspace.confirm(Durability.FSYNC, 100) is reached
            assert keyspace.confirm(Durability.REPLICA, 100) is Durability.MEMORY
            keyspace.close()


@pytest.mark.redis
def test_a_connection_that_was_made_anew_confirms_nothing(sentinel: TlsSentinel) -> None:
    with TlsSentinel(replicas=1) as replicated:
        keyspace = RedisKeyspace(replicated.settings)
        keyspace.apply([], [("SET", "resonance:{a}", "1")])
        assert keyspace.confirm(Durability.REPLICA, 2000) is Durability.REPLICA
        replicated.admin().client_kill_filter(_type="normal", skipme=True)
        assert keyspace.confirm(Durability.REPLICA, 2000) is Durability.MEMORY
        keyspace.close()


@pytest.mark.redis
def test_a_client_certificate_is_shown_where_one_is_wanted() -> None:
    with TlsRedis() as server:
        server.admin().config_set("tls-auth-clients", "yes")
        error = refusal(server.settings)
        assert type(error) is StoreRefused
        assert "tls.crt" in str(error)
        mine = server.ca.issue_cert("agent")
        shown = {
            "tls.crt": mine.cert_chain_pems[0].bytes().decode(),
            "tls.key": mine.private_key_pem.bytes().decode(),
        }
        keyspace = RedisKeyspace(server.changed(shown))
        assert keyspace.apply([], [("SET", "resonance:{a}", "1")]) is not None
        keyspace.close()
        other = trustme.CA().issue_cert("agent")
        shown = {
            "tls.crt": other.cert_chain_pems[0].bytes().decode(),
            "tls.key": other.private_key_pem.bytes().decode(),
        }
        assert type(refusal(server.changed(shown))) is StoreRefused


@pytest.mark.redis
def test_a_changed_password_is_used_without_a_restart() -> None:
    with TlsRedis() as server:
        secret = server.secret
        keyspace = RedisKeyspace(lambda: read_settings(secret))
        keyspace.apply([], [("SET", "resonance:{a}", "1")])
        server.admin().acl_setuser("resonance", enabled=True, reset_passwords=True, passwords=["+new"])
        server.admin().client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(StoreError):
            keyspace.read([Hash("resonance:{b}")])
        secret = {**secret, "password": "new"}
        assert keyspace.read([Hash("resonance:{b}")]).hash(0) == {}
        keyspace.close()
