"""Real TLS Redis servers for the faults."""

from collections.abc import Iterator

import pytest

from tests.redis_server import TlsRedis


@pytest.fixture(scope="session")
def server() -> Iterator[TlsRedis]:
    """One that lives for the whole run."""
    with TlsRedis() as running:
        yield running
