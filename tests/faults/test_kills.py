"""``kill -9`` of the writer and of Redis at random instants: nothing torn, nothing acknowledged lost."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from resonance.store.redis_keyspace import RedisKeyspace
from tests.faults.nursery import Nursery, mark_of, newest, state_of
from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis

KILLED_WRITERS = 200
KILLED_SERVERS = 12


@pytest.fixture
def near(server: TlsRedis) -> Iterator[RedisKeyspace]:
    server.admin().flushall()
    keyspace = RedisKeyspace(server.settings)
    yield keyspace
    keyspace.close()


def test_a_writer_killed_at_any_instant_leaves_a_whole_snapshot_not_older_than_what_it_was_acknowledged(
    server: TlsRedis, near: RedisKeyspace
) -> None:
    chance = random.Random(3)
    with Nursery(server.secret) as writers:
        for _ in range(KILLED_WRITERS):
            writers.begin()
            writers.listen_until(writers.sent + chance.randrange(1, 7))
            writers.listen(chance.random() * 0.012)
            writers.kill()
            state = newest(near)
            assert state is not None
            assert state == state_of(mark_of(state))
            assert writers.acknowledged <= mark_of(state) <= writers.sent


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_redis_killed_at_any_instant_comes_back_with_a_whole_snapshot(fsync: str) -> None:
    """With ``always`` it is never older than what was acknowledged; with ``everysec`` it may be, but never torn."""
    chance = random.Random(5)
    # Redis 7.0 that is killed while it begins to rewrite its file may refuse to start: not what is tried here.
    options = ["--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0"]
    with TlsRedis(options=options) as own, Nursery(own.secret) as writers:
        keyspace = RedisKeyspace(own.settings)
        writers.begin()
        for _ in range(KILLED_SERVERS):
            writers.listen_until(writers.sent + chance.randrange(2, 20))
            writers.listen(chance.random() * 0.02)
            own.kill()
            writers.listen(0.002)
            acknowledged = writers.acknowledged
            own.start()
            state = newest(keyspace)
            assert state is not None
            assert state == state_of(mark_of(state))
            assert fsync == "everysec" or mark_of(state) >= acknowledged
        writers.listen_until(writers.acknowledged + 3)
        keyspace.close()
