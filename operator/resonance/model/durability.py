"""How safe a snapshot is known to be: what was asked for, and what was reached.

The argument: a level is only claimed after the server confirmed it, and it is written into the manifest *after* the
snapshot, as a change of its own. Replication and the append-only file both keep the order of writes, so wherever that
mark is found, the snapshot is too: a fail-over can lose the mark and the claim becomes smaller, never false.
"""

from __future__ import annotations

from enum import StrEnum


class Durability(StrEnum):
    """What has a snapshot."""

    MEMORY = "Memory"
    """The primary's memory; what its settings then do with it is judged in ``StoreSafe``."""
    FSYNC = "Fsync"
    """The primary's disk, by its append-only file: ``WAITAOF`` (Redis 7.2), or ``appendfsync always`` where we may see
    it."""
    REPLICA = "Replica"
    """The memory of the primary and of at least one replica: ``WAIT``."""
