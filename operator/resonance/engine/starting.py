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
    """What a starting pod gets. ``document`` is the restore file's content when ``answer`` is Give.

    ``claim`` is None when the pod must not claim here: the keys are another cluster's. ``last_seq`` is the highest that
    is known to be used.
    """

    answer: Answer
    claim: Claim | None
    restored: Restored | None = None
    document: bytes | None = None
    lines: frozenset[str] = frozenset()
    last_seq: int = 0


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
    taken = ask(keyspace, keys, who, cluster=cluster)
    if isinstance(taken, Wait):
        return taken
    if isinstance(taken, CannotTell):
        return Start(taken, None)
    return give(keyspace, keys, taken, file=file, max_bytes=max_bytes)


def ask(keyspace: Keyspace, keys: WorkloadKeys, who: Claimant, *, cluster: str) -> Claim | Wait | CannotTell:
    """Claim a member, unless the keys belong to another cluster: then nothing is touched. Raises store errors."""
    _, policy = read_slot(keyspace, keys, who.member or "")
    if policy is not None and cluster and policy.cluster and policy.cluster != cluster:
        return CannotTell(Unknown.OTHER_CLUSTER)
    return claim(keyspace, keys, who)


def give(keyspace: Keyspace, keys: WorkloadKeys, taken: Claim, *, file: LocalFile | None, max_bytes: int) -> Start:
    """What the claimed member's pod starts with. Raises store errors."""
    record, policy = read_slot(keyspace, keys, taken.member)
    member = Member(taken.member, keys.member(taken.member), keys)
    seen = load(keyspace, member)
    known = policy.known.get(taken.member) if policy is not None else None
    answer = decide_restore(record or taken.record, seen.record.head, known_seq=known, file=file)
    if isinstance(answer, NeverExisted) and seen.record.damage:
        answer = CannotTell(Unknown.HEAD_LOST)
    lines = seen.record.lines
    last_seq = max((each.seq for each in seen.record.all()), default=0)
    last_seq = max(last_seq, seen.record.head.seq if seen.record.head is not None else 0)
    match answer:
        case Give():
            found = restore(keyspace, member, seen, max_bytes=max_bytes)
            if found is None:
                return Start(CannotTell(Unknown.NOTHING_VERIFIES), taken, lines=lines, last_seq=last_seq)
            document = encode_restore_file(found.state, snapshot_of(found.manifest))
            return Start(answer, taken, found, document, lines, last_seq)
        case KeepFile() | NeverExisted() | CannotTell():
            return Start(answer, taken, lines=lines, last_seq=last_seq)


def snapshot_of(manifest: Manifest) -> dict[str, object]:
    """The ``snapshot`` object of a restore file."""
    return {
        "id": manifest.id,
        "takenAt": manifest.taken_at.isoformat(timespec="milliseconds"),
        "commit": manifest.commit,
        "epoch": manifest.epoch,
    }
