"""A Sentinel place and a Cluster for the whole run, and the keyspace over each, so that the suites of ``tests/store``
run here as they are.
"""

from collections.abc import Iterator

import pytest

from resonance.store.keyspace import Keyspace
from resonance.store.redis_keyspace import RedisKeyspace
from tests.servers.places import Place, TlsCluster, TlsSentinel

PLACES: dict[str, type[TlsSentinel | TlsCluster]] = {"sentinel": TlsSentinel, "cluster": TlsCluster}


@pytest.fixture(scope="session", params=list(PLACES))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Nobody fails over here: tests that break a place make their own."""
    made: Place = PLACES[request.param]()
    with made as running:
        yield running


@pytest.fixture
def keyspace(place: TlsSentinel | TlsCluster) -> Iterator[Keyspace]:
    """An empty one."""
    place.admin().flushall()
    made = RedisKeyspace(place.settings)
    yield made
    made.close()
