"""A Redis that answers is not yet one that keeps what it acknowledged."""

from typing import Any

import pytest

from resonance.store.health import Danger, judge

GOOD: dict[str, Any] = {
    "role": "master",
    "loading": 0,
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 1000,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "connected_slaves": 0,
    "evicted_keys": 0,
}


def dangers(**changes: Any) -> list[Danger]:
    return [each.danger for each in judge({**GOOD, **changes}, evicted_before=0).findings]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"maxmemory_policy": "volatile-lru"}, []),
        ({"maxmemory_policy": "allkeys-lru"}, [Danger.EVICTION]),
        ({"maxmemory_policy": "allkeys-random"}, [Danger.EVICTION]),
        ({"evicted_keys": 3}, [Danger.KEYS_EVICTED]),
        ({"aof_enabled": 0}, [Danger.NOT_DURABLE]),
        ({"aof_enabled": 0, "connected_slaves": 1}, []),
        ({"aof_last_write_status": "err"}, [Danger.AOF_FAILING]),
        ({"rdb_last_bgsave_status": "err"}, [Danger.SAVE_FAILING]),
        ({"maxmemory": 1100}, [Danger.MEMORY_SHORT]),
        ({"maxmemory": 1200}, []),
        ({"loading": 1}, [Danger.LOADING]),
        ({"role": "slave"}, [Danger.READ_ONLY_REPLICA]),
    ],
)
def test_each_danger_is_found_and_nothing_else(changes: dict[str, Any], expected: list[Danger]) -> None:
    assert dangers(**changes) == expected


def test_the_gravest_danger_is_the_reason() -> None:
    assert dangers(maxmemory_policy="allkeys-lru", aof_enabled=0)[0] is Danger.EVICTION


def test_an_old_count_of_evictions_is_no_news() -> None:
    assert judge({**GOOD, "evicted_keys": 9}).safe
    assert judge({**GOOD, "evicted_keys": 9}, evicted_before=9).safe


def test_a_server_that_hides_its_settings_is_not_blamed() -> None:
    assert judge({}).safe


def test_every_danger_names_a_remedy() -> None:
    changes = {"maxmemory_policy": "allkeys-lru", "aof_enabled": 0, "maxmemory": 1001, "evicted_keys": 1, "loading": 1}
    for each in judge({**GOOD, **changes}, evicted_before=0).findings:
        assert ";" in each.message, each
