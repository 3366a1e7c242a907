"""Giving back one snapshot, verified, or the newest that still verifies, saying which and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resonance.model.errors import StoreDamaged
from resonance.model.manifest import Manifest, MemberRecord
from resonance.model.naming import MemberKeys
from resonance.model.state import State, digest
from resonance.sealing import open_chain, proof_of
from resonance.store.keyspace import Hash, Keyspace, Query, Text
from resonance.store.member import Member, Seen


@dataclass(frozen=True, slots=True)
class Restored:
    """A verified state. ``used`` says from where; ``skipped`` names damaged records, newer snapshots, and why."""

    manifest: Manifest
    state: State
    used: str
    skipped: tuple[str, ...]


def restore(
    keyspace: Keyspace,
    member: Member,
    seen: Seen,
    *,
    max_bytes: int,
    wanted: Callable[[Manifest], bool] | None = None,
) -> Restored | None:
    """The newest intact snapshot that ``wanted`` picks, verified against its digest; None when nothing verifies.

    The head is tried from the live hashes first, then every snapshot from its base and deltas: the head's ancestors
    newest first, then the others. With ``wanted`` nothing that it refuses is ever given. Raises store errors.
    """
    skipped = list(seen.record.damage)
    head = seen.record.head
    for manifest in _candidates(seen.record):
        if wanted is not None and not wanted(manifest):
            continue
        sources = [("live", _from_live)] if head is not None and manifest.seq == head.seq == head.live else []
        for used, source in [("blobs", _from_blobs), *sources]:
            try:
                state = source(keyspace, member.keys, manifest, max_bytes)
            except StoreDamaged as damage:
                skipped.append(f"{manifest.id} ({used}): {damage}")
                continue
            return Restored(manifest, state, used, tuple(skipped))
    return None


def _candidates(record: MemberRecord) -> list[Manifest]:
    everything = list(record.all())
    if record.head is not None and record.head.seq not in {each.seq for each in everything}:
        everything.insert(0, record.head.manifest)
    by_commit = {each.commit: each for each in everything}
    ancestors: list[Manifest] = []
    at = record.head.manifest if record.head is not None else None
    while at is not None and at not in ancestors:
        ancestors.append(at)
        at = by_commit.get(at.parent) if at.parent is not None else None
    return ancestors + [each for each in everything if each not in ancestors]


def _from_live(keyspace: Keyspace, keys: MemberKeys, manifest: Manifest, max_bytes: int) -> State:
    del max_bytes
    kinds = list(manifest.counts)
    exact = keyspace.read([Text(keys.exact_metrics)]).text(0)
    metrics = Text(keys.metrics if exact is None else keys.exact_metrics)
    queries: list[Query] = [*(Hash(keys.live(kind)) for kind in kinds), metrics]
    found = keyspace.read(queries)
    try:
        entries = {
            kind: {key.decode(): raw for key, raw in found.hash(index).items()} for index, kind in enumerate(kinds)
        }
    except UnicodeDecodeError as error:
        raise StoreDamaged(f"{keys.root}: an id is not UTF-8") from error
    state = State(entries, found.text(len(kinds)))
    return _verified(state, manifest, f"{keys.root} live state")


def _from_blobs(keyspace: Keyspace, keys: MemberKeys, manifest: Manifest, max_bytes: int) -> State:
    base, *deltas = manifest.chain
    names = [keys.base(base), *(keys.delta(seq) for seq in deltas)]
    found = keyspace.read([Text(name) for name in names])
    own = found.text(len(deltas))
    if own is not None and proof_of(own) != manifest.proof:
        raise StoreDamaged(f"{names[-1]}: is not the blob that was saved")
    state = open_chain([found.text(index) for index in range(len(names))], names, max_bytes)
    return _verified(state, manifest, f"{keys.root} snapshot {manifest.seq}")


def _verified(state: State, manifest: Manifest, where: str) -> State:
    if digest(state) != manifest.digest or state.counts() != dict(manifest.counts):
        raise StoreDamaged(f"{where}: does not match its digest")
    return state
