"""A TLS Redis for the whole run, and each keyspace that the contract suite must hold for."""

from collections.abc import Iterator

import pytest

from resonance.store.keyspace import Keyspace
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.testing import MemoryKeyspace
from tests.redis_server import TlsRedis


@pytest.fixture(scope="session")
def server() -> Iterator[TlsRedis]:
    """One real Redis with TLS, AUTH and the least-privilege user."""
    with TlsRedis() as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def keyspace(request: pytest.FixtureRequest) -> Iterator[Keyspace]:
    """The double and the real thing, each empty."""
    if request.param == "memory":
        yield MemoryKeyspace()
        return
    running: TlsRedis = request.getfixturevalue("server")
    running.admin().flushall()
    real = RedisKeyspace(running.settings)
    yield real
    real.close()
