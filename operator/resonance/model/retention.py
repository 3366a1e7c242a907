"""What stays when a new head arrives: the pure bookkeeping of one member's snapshots and blobs.

Recent snapshots stand in a list, newest first, cut at ``recent``. A snapshot that must outlive that cut has its
manifest in ``kept`` too, with the reasons why: a *tip*, a *pin*, the last one of an *hour* or of a *day*. A blob is
dropped only when no manifest that stays has it in its chain, so cutting the list never breaks what is kept.

Never dropped, whatever the limits: the head, pinned ones, and tips while there are no more than ``tips``. Times are the
capturing host's; they choose which of many old snapshots stay, and decide nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resonance.model.manifest import Head, Manifest, MemberRecord, keep

TIP = "tip"
PIN = "pin"
HOUR = "hourly"
DAY = "daily"
MAX_CHAIN = 50
"""Deltas on one base: a restore stays bounded even where each delta is tiny."""
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Retention:
    """How many stay: at full cadence, the last of each hour, of each day, and tips. ``max_bytes`` bounds all blobs."""

    recent: int = 60
    hourly: int = 24
    daily: int = 7
    tips: int = 8
    max_bytes: int | None = None


DEFAULT = Retention()
Blob = tuple[str, int]
"""("base" or "delta", seq)."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The records after an append, the blobs that nothing needs any more, and the tips that had to go."""

    record: MemberRecord
    unneeded: tuple[Blob, ...]
    evicted_tips: tuple[Manifest, ...]


def append(seen: MemberRecord, head: Head, *, tip: bool, limits: Retention = DEFAULT) -> Appended:
    """``seen`` with ``head`` as its newest; ``tip`` keeps the old head."""
    kept = dict(seen.kept)
    if tip and seen.head is not None:
        kept[seen.head.seq] = keep(kept.get(seen.head.seq, seen.head.manifest), TIP)
    listed = (head.manifest, *seen.recent)
    for index, leaving in enumerate(listed[limits.recent :], limits.recent):
        for reason in _last_of(leaving, after=listed[index - 1]):
            kept[leaving.seq] = keep(kept.get(leaving.seq, leaving), reason)
    _limit(kept, HOUR, limits.hourly)
    _limit(kept, DAY, limits.daily)
    evicted = _limit(kept, TIP, limits.tips)
    after = MemberRecord(head, listed[: limits.recent], kept)
    if limits.max_bytes is not None:
        after = _within(after, limits.max_bytes)
    return Appended(after, tuple(sorted(blobs(seen) - blobs(after))), evicted)


def _last_of(leaving: Manifest, *, after: Manifest) -> list[str]:
    spans = ((HOUR, _HOUR_MS), (DAY, _DAY_MS))
    return [name for name, span in spans if leaving.taken_at_ms // span != after.taken_at_ms // span]


def _limit(kept: dict[int, Manifest], reason: str, most: int) -> tuple[Manifest, ...]:
    """Take ``reason`` from the oldest beyond ``most``; a snapshot without a reason is not kept."""
    marked = sorted(seq for seq, each in kept.items() if reason in each.kept_as)
    gone = tuple(kept[seq] for seq in marked[: max(0, len(marked) - most)])
    for each in gone:
        left = without(each, reason)
        if left.kept_as:
            kept[each.seq] = left
        else:
            del kept[each.seq]
    return gone


def without(manifest: Manifest, reason: str) -> Manifest:
    """The same manifest, not kept for ``reason`` any more."""
    return replace(manifest, kept_as=tuple(each for each in manifest.kept_as if each != reason))


def _within(record: MemberRecord, max_bytes: int) -> MemberRecord:
    """Drop the oldest that may go until the blobs fit, or only the head and what is never dropped are left."""
    kept, recent = dict(record.kept), list(record.recent)
    while stored_bytes(MemberRecord(record.head, tuple(recent), kept)) > max_bytes:
        oldest = min((seq for seq, each in kept.items() if not {TIP, PIN} & set(each.kept_as)), default=None)
        if oldest is not None and (len(recent) <= 1 or oldest < recent[-1].seq):
            del kept[oldest]
        elif len(recent) > 1:
            recent.pop()
        else:
            break
    return MemberRecord(record.head, tuple(recent), kept)


def stored_bytes(record: MemberRecord) -> int:
    """Bytes of all blobs that the record needs; a delta whose manifest is gone counts through those built on it."""
    sizes: dict[int, int] = {}
    for each in record.all():
        sizes[each.chain[-1]] = each.stored_bytes
        sizes[each.chain[0]] = each.base_bytes
    hidden = {each.chain: each.deltas_bytes - sum(sizes.get(seq, 0) for seq in each.chain[1:]) for each in record.all()}
    return sum(sizes.values()) + max([0, *hidden.values()])


def blobs(record: MemberRecord) -> set[Blob]:
    """Every blob that some snapshot of the record is built from."""
    return {("delta" if place else "base", seq) for each in record.all() for place, seq in enumerate(each.chain)}


def needs_base(previous: Manifest) -> bool:
    """True when the next snapshot should be a whole one: the deltas outweigh their base, or there are many."""
    return previous.deltas_bytes >= previous.base_bytes or len(previous.chain) > MAX_CHAIN
