"""What happens before the app's first instruction: claim the member, then give its state, or say that we cannot tell.

Safe to repeat at any point: the claim returns what this pod already holds, and giving writes nothing to the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from resonance.codec import encode_restore_file
from resonance.model.claim import Claimant, Wait
from resonance.model.manifest import Manifest
from resonance.model.naming import WorkloadKeys
from resonance.model.restore import (
    Answer,
    CannotTell,
    Give,
    KeepFile,
    LocalFile,
    NeverExisted,
    Unknown,
    decide_restore,
)
from resonance.store.keyspace import Keyspace
from resonance.store.member import Member, load
from resonance.store.restore import Restored, restore
from resonance.store.workload import Claim, claim, read_slot


@dataclass(frozen=True, slots=True)
class Start:
    """What a starting pod gets. ``document`` is the restore file's content when ``answer`` is Give."""

    answer: Answer
    claim: Claim
    restored: Restored | None = None
    document: bytes | None = None
    lines: frozenset[str] = frozenset()


def begin(
    keyspace: Keyspace,
    keys: WorkloadKeys,
    who: Claimant,
    *,
    cluster: str,
    file: LocalFile | None,
    max_bytes: int,
) -> Start | Wait:
    """Claim and decide once. ``Wait`` means: ask again. Raises store errors (then nothing is known)."""
    taken = claim(keyspace, keys, who)
    if isinstance(taken, Wait):
        return taken
    return give(keyspace, keys, taken, cluster=cluster, file=file, max_bytes=max_bytes)


def give(
    keyspace: Keyspace, keys: WorkloadKeys, taken: Claim, *, cluster: str, file: LocalFile | None, max_bytes: int
) -> Start:
    """What the claimed member's pod starts with. Raises store errors."""
    record, policy = read_slot(keyspace, keys, taken.member)
    if policy is not None and cluster and policy.cluster != cluster:
        return Start(CannotTell(Unknown.OTHER_CLUSTER), taken)
    member = Member(taken.member, keys.member(taken.member), keys)
    seen = load(keyspace, member)
    known = policy.known.get(taken.member) if policy is not None else None
    answer = decide_restore(record or taken.record, seen.record.head, known_seq=known, file=file)
    lines = seen.record.lines
    match answer:
        case Give():
            found = restore(keyspace, member, seen, max_bytes=max_bytes)
            if found is None:
                return Start(CannotTell(Unknown.NOTHING_VERIFIES), taken, lines=lines)
            return Start(answer, taken, found, encode_restore_file(found.state, snapshot_of(found.manifest)), lines)
        case KeepFile() | NeverExisted() | CannotTell():
            return Start(answer, taken, lines=lines)


def snapshot_of(manifest: Manifest) -> dict[str, object]:
    """The ``snapshot`` object of a restore file."""
    return {
        "id": manifest.id,
        "takenAt": manifest.taken_at.isoformat(timespec="milliseconds"),
        "commit": manifest.commit,
        "epoch": manifest.epoch,
    }
