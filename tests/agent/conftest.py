"""One TLS Redis for the whole folder; each test has a namespace of its own in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.agent.pod import Store
from tests.redis_server import TlsRedis


@pytest.fixture(scope="session")
def redis() -> Iterator[TlsRedis]:
    with TlsRedis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[TlsRedis]:
    """One that the test may stop."""
    with TlsRedis() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex[:12]


@pytest.fixture
def store(redis: TlsRedis, namespace: str) -> Store:
    return Store(redis, namespace)
