"""Every key of a Redis with its value, for comparing before and after."""

from __future__ import annotations

from collections.abc import Mapping

import redis


def dump(admin: redis.Redis) -> Mapping[str, object]:
    """All of database 0."""
    return {key.decode(): _value(admin, key) for key in admin.scan_iter(count=1000)}


def _value(admin: redis.Redis, key: bytes) -> object:
    match admin.type(key):
        case b"hash":
            return admin.hgetall(key)
        case b"list":
            return admin.lrange(key, 0, -1)
        case b"string":
            return admin.get(key)
        case other:
            return other
