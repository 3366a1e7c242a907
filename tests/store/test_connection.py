"""Every way in which a Redis can be the wrong one, tried against a real server: refused, with the remedy named."""

import inspect
import ssl
from collections.abc import Callable

import pytest
import redis
import redis.exceptions
import trustme

from resonance.model.errors import InvalidInput, StoreBusy, StoreError, StoreRefused, StoreUnreachable
from resonance.store.connection import StoreSettings, read_settings, translate
from resonance.store.keyspace import Text
from resonance.store.redis_keyspace import RedisKeyspace
from tests.redis_server import TlsRedis, free_port

pytestmark = pytest.mark.redis


def refusal(settings: StoreSettings) -> StoreError:
    """The error of the first read."""
    keyspace = RedisKeyspace(settings)
    with pytest.raises(StoreError) as caught:
        keyspace.read([Text("resonance:x")])
    keyspace.close()
    return caught.value


WRONG: list[tuple[str, Callable[[TlsRedis], StoreSettings], type[StoreError], tuple[str, ...]]] = [
    (
        "another CA",
        lambda server: server.changed({"ca.crt": trustme.CA().cert_pem.bytes().decode()}),
        StoreRefused,
        ("certificate verify failed", "ca.crt"),
    ),
    (
        "a host name that the certificate does not name",
        lambda server: server.changed({"url": f"rediss://127.0.0.2:{server.port}"}),
        StoreRefused,
        ("certificate verify failed", "must name this host"),
    ),
    (
        "a wrong password",
        lambda server: server.changed({"password": "wrong"}),
        StoreRefused,
        ("username and password",),
    ),
    ("a wrong user", lambda server: server.changed({"username": "nobody"}), StoreRefused, ("username and password",)),
    (
        "a port that speaks plain text",
        lambda server: server.changed({"url": f"rediss://localhost:{server.plain_port}"}),
        StoreRefused,
        ("plain text", "TLS port"),
    ),
    (
        "a port that nobody listens on",
        lambda server: server.changed({"url": f"rediss://localhost:{free_port()}"}),
        StoreUnreachable,
        ("does not answer",),
    ),
    (
        "a name that nobody has",
        lambda server: server.changed({"url": f"rediss://redis.invalid:{server.port}"}),
        StoreUnreachable,
        ("does not answer", "redis.invalid"),
    ),
]


@pytest.mark.parametrize(("make", "kind", "words"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_a_wrong_redis_is_refused_and_the_remedy_is_named(
    plain_server: TlsRedis, make: Callable[[TlsRedis], StoreSettings], kind: type[StoreError], words: tuple[str, ...]
) -> None:
    error = refusal(make(plain_server))
    assert type(error) is kind
    assert all(word in str(error) for word in words), str(error)
    assert plain_server.password not in str(error)


@pytest.fixture(scope="module")
def plain_server() -> object:
    with TlsRedis(plaintext=True) as running:
        yield running


INPUT: list[tuple[str, dict[str, str], str, str]] = [
    ("a plaintext URL", {"url": "redis://localhost:6379"}, "url", "rediss://"),
    ("no URL", {"url": ""}, "url", "rediss://"),
    ("a URL without a host", {"url": "rediss://"}, "url", "host is missing"),
    ("a password in the URL", {"url": "rediss://:secret@localhost"}, "url", "keys username and password"),
    ("a database that is no number", {"url": "rediss://localhost:1/x"}, "url", "number"),
    ("no password", {"password": ""}, "password", "AUTH"),
    ("no CA", {"ca.crt": ""}, "ca.crt", "PEM"),
    ("a certificate without its key", {"tls.crt": "x"}, "tls.crt", "both"),
]


@pytest.mark.parametrize(("changes", "key", "remedy"), [each[1:] for each in INPUT], ids=[each[0] for each in INPUT])
def test_a_wrong_secret_is_refused_by_key_and_remedy(
    server: TlsRedis, changes: dict[str, str], key: str, remedy: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_settings({**server.secret, **changes})
    assert caught.value.path == f"secret key {key}"
    assert remedy in caught.value.remedy
    assert "secret@" not in str(caught.value)


def test_a_ca_of_the_system_is_not_trusted_beside_the_given_one(server: TlsRedis) -> None:
    keyspace = RedisKeyspace(server.settings)
    context = keyspace.trusted
    assert [each["subject"] for each in context.get_ca_certs()] == [
        each["subject"] for each in _only(server.settings.ca).get_ca_certs()
    ]
    assert len(context.get_ca_certs()) == 1
    keyspace.close()


def _only(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem)
    return context


def test_settings_show_no_secret(server: TlsRedis) -> None:
    shown = repr(server.settings)
    assert server.password not in shown
    assert "BEGIN" not in shown


def test_a_user_with_fewer_rights_is_told_which_one_is_missing(server: TlsRedis) -> None:
    server.admin().acl_setuser("poor", enabled=True, passwords=["+poor"], commands=["+ping", "+hello", "+auth"])
    error = refusal(server.changed({"username": "poor", "password": "poor"}))
    assert isinstance(error, StoreRefused)
    assert "ACL" in str(error)


def test_every_error_of_the_client_library_has_a_translation() -> None:
    classes = [each for _, each in inspect.getmembers(redis.exceptions, inspect.isclass)]
    errors = [each for each in classes if issubclass(each, redis.RedisError)]
    assert len(errors) >= 30
    for each in errors:
        try:
            made = each("word")
        except (TypeError, ValueError):
            made = each.__new__(each)
        assert type(translate(made, "redis:1")) in {StoreRefused, StoreUnreachable, StoreBusy}, each


def test_every_acknowledged_snapshot_outlives_a_kill_of_redis() -> None:
    with TlsRedis(options=["--appendfsync", "always"]) as own:
        keyspace = RedisKeyspace(own.settings)
        for number in range(200):
            assert keyspace.apply([], [("HSET", "resonance:{a}:h", str(number), "x")]) is not None
        own.kill()
        with pytest.raises(StoreUnreachable):
            keyspace.read([Text("resonance:{a}:s")])
        own.start()
        assert keyspace.apply([], [("HSET", "resonance:{a}:h", "last", "x")]) is not None
        assert own.admin().hlen("resonance:{a}:h") == 201
        keyspace.close()
