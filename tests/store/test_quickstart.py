"""The quickstart Redis of manifests/redis: its Secrets are made once, its configuration keeps what was written."""

import importlib.util
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import redis

from tests.lab.waiting import within
from tests.redis_server import ACL, free_port, require_redis_server

FOLDER = Path(__file__).resolve().parents[2] / "manifests" / "redis"


def loaded() -> ModuleType:
    """The program of the init container, as a module."""
    spec = importlib.util.spec_from_file_location("make_secrets", FOLDER / "make_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_secrets = loaded()


class Namespace:
    """The Secrets of a namespace, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, str]] = {}

    def read(self, name: str) -> dict[str, str] | None:
        return self.kept.get(name)

    def create(self, name: str, content: Mapping[str, str]) -> bool:
        return self.kept.setdefault(name, dict(content)) == content


def test_a_second_start_changes_nothing() -> None:
    namespace = Namespace()
    made = make_secrets.ensure(namespace, "here")
    before = {name: dict(content) for name, content in namespace.kept.items()}
    assert make_secrets.ensure(namespace, "here") == made
    assert namespace.kept == before
    assert namespace.kept["resonance-redis"]["url"] == "rediss://redis.here.svc:6379"


def test_a_start_that_died_between_the_two_secrets_is_finished_by_the_next() -> None:
    namespace = Namespace()
    made = make_secrets.ensure(namespace, "here")
    del namespace.kept["resonance-redis"]
    make_secrets.ensure(namespace, "here")
    assert namespace.kept["resonance-redis"]["password"] == made["password"]


def test_of_two_starts_at_once_both_use_what_the_first_made() -> None:
    class Late(Namespace):
        """Says that there is nothing until it is asked to create."""

        def read(self, name: str) -> dict[str, str] | None:
            return super().read(name) if self.asked else None

        def create(self, name: str, content: Mapping[str, str]) -> bool:
            self.asked = True
            return super().create(name, content)

        asked = False

    other = Namespace()
    made = make_secrets.ensure(other, "here")
    late = Late()
    late.kept = other.kept
    assert make_secrets.ensure(late, "here") == made


def test_the_key_of_the_authority_is_kept_nowhere() -> None:
    assert set(make_secrets.new_server("here")) == {"ca.crt", "tls.crt", "tls.key", "password"}


def test_the_user_may_do_what_the_tested_user_may_and_nothing_more() -> None:
    tested = {word for word in ACL.split() if word.startswith("+")}
    assert {word for word in make_secrets.users("x").splitlines()[1].split() if word.startswith("+")} == tested


# ------------------------------------------------------------------------------------------ with the real server
@contextmanager
def running(folder: Path, port: int) -> Iterator[None]:
    """A real Redis with the quickstart's own configuration, its paths moved into the folder; killed at the end."""
    text = (FOLDER / "redis.conf").read_text()
    text = (
        text.replace("tls-port 6379", f"tls-port {port}")
        .replace("/run/redis", str(folder))
        .replace("/data", str(folder))
    )
    (folder / "redis.conf").write_text(text)
    command = [require_redis_server(), str(folder / "redis.conf"), "--bind", "127.0.0.1"]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def server(tmp_path: Path) -> dict[str, str]:
    made: dict[str, str] = make_secrets.new_server("here")
    make_secrets.write(tmp_path, made)
    return made


def client(server: Mapping[str, str], port: int, folder: Path, **given: str) -> redis.Redis:
    """A client of our user, once the server answers."""
    who = {"username": make_secrets.USER, "password": server["password"], **given}
    made = redis.Redis(host="localhost", port=port, ssl=True, ssl_ca_certs=str(folder / "ca.crt"), **who)

    def answers() -> bool:
        try:
            made.ping()
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, ssl.SSLError):
            return False
        return True

    within(10, f"Redis to answer: {folder / 'log'}", answers)
    return made


@pytest.mark.redis
def test_a_killed_redis_comes_back_with_every_transaction(server: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port), client(server, port, tmp_path) as before:
        before.pipeline(transaction=True).set("resonance:a", "1").hset("resonance:b", "c", "2").execute()
    with running(tmp_path, port), client(server, port, tmp_path) as after:
        assert after.get("resonance:a") == b"1"
        assert after.hgetall("resonance:b") == {b"c": b"2"}


@pytest.mark.redis
def test_nobody_else_gets_in_and_our_user_stays_under_its_prefix(server: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port), client(server, port, tmp_path) as ours:
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.get("theirs:a")
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.flushall()
        with pytest.raises(redis.AuthenticationError):
            client(server, port, tmp_path, password="wrong")
        with pytest.raises(redis.AuthenticationError):
            client(server, port, tmp_path, username="default", password="")
