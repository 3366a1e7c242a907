"""What stays when a new head arrives: the pure bookkeeping of one member's snapshots and blobs.

Recent snapshots stand in a list, newest first, cut at ``recent``. A snapshot that must outlive that cut (a tip) has its
manifest in ``kept`` too. A blob is dropped only when no manifest that stays has it in its chain, so cutting the list
never breaks what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resonance.model.manifest import Head, Manifest, MemberRecord, keep

TIP = "tip"
RECENT = 60
TIPS = 8
MAX_CHAIN = 50
"""Deltas on one base: a restore stays bounded even where each delta is tiny."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The records after an append, the blobs that nothing needs any more, and the tips that had to go."""

    record: MemberRecord
    unneeded: tuple[tuple[str, int], ...]
    evicted_tips: tuple[Manifest, ...]


def append(seen: MemberRecord, head: Head, *, tip: bool, recent: int = RECENT, tips: int = TIPS) -> Appended:
    """``seen`` with ``head`` as its newest; ``tip`` keeps the old head. ``recent`` ≥ 1, ``tips`` ≥ 1."""
    kept = dict(seen.kept)
    if tip and seen.head is not None:
        kept[seen.head.seq] = keep(seen.head.manifest, TIP)
    evicted = _evict_tips(kept, tips)
    listed = (head.manifest, *seen.recent)[:recent]
    after = MemberRecord(head, listed, kept)
    return Appended(after, _unneeded(seen, after), evicted)


def _evict_tips(kept: dict[int, Manifest], tips: int) -> tuple[Manifest, ...]:
    marked = sorted(seq for seq, each in kept.items() if TIP in each.kept_as)
    evicted = tuple(kept[seq] for seq in marked[: max(0, len(marked) - tips)])
    for each in evicted:
        rest = tuple(reason for reason in each.kept_as if reason != TIP)
        if rest:
            kept[each.seq] = replace(each, kept_as=rest)
        else:
            del kept[each.seq]
    return evicted


def _blobs(record: MemberRecord) -> set[tuple[str, int]]:
    return {("delta" if place else "base", seq) for each in record.all() for place, seq in enumerate(each.chain)}


def _unneeded(before: MemberRecord, after: MemberRecord) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(_blobs(before) - _blobs(after)))


def needs_base(previous: Manifest | None, *, chain_bytes: int, base_bytes: int) -> bool:
    """True when the next snapshot should be a whole one: nothing to build on, or the deltas outweigh their base."""
    return previous is None or chain_bytes >= base_bytes or len(previous.chain) > MAX_CHAIN
