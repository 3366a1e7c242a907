"""What we know of a snapshot without opening it, and of a member's head.

A snapshot's id is ``<line>.<seq>``. Its *commit* is unique per capture; parents are compared by commit, because a seq
that was written to a restore file and never committed may be issued again by another pod.

``chain`` lists the seqs whose blobs rebuild the snapshot: a base first, then deltas, itself last. Everything that the
decisions of this package need is in these records, and every record is written together with the head.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from resonance.model.errors import StoreDamaged
from resonance.model.naming import MemberKeys
from resonance.model.record import read_record

FORMAT = 1
UNPROVEN = "unproven-"
"""Beginning of the line of an app that sends no proof headers."""
_LATEST_MS = 253_402_300_800_000
"""The year 10000, beyond which no date can be shown."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One committed snapshot.

    ``state_bytes`` and ``stored_bytes`` are before and after compression; ``taken_at_ms`` is the capturing host's
    clock, for people only. ``proof`` is that of its own blob, ``base_bytes`` and ``deltas_bytes`` are
    the stored sizes of its whole chain. ``parent`` is the commit that the captured process descends from, None when it
    started empty.
    """

    seq: int
    commit: str
    line: str
    parent: str | None
    incarnation: str
    digest: str
    counts: Mapping[str, int]
    state_bytes: int
    stored_bytes: int
    chain: tuple[int, ...]
    proof: str
    taken_at_ms: int
    writer: str
    pod: str
    epoch: int
    durability: str = "Memory"
    kept_as: tuple[str, ...] = ()
    base_bytes: int = 0
    deltas_bytes: int = 0

    @property
    def id(self) -> str:
        return f"{self.line}.{self.seq}"

    @property
    def taken_at(self) -> datetime:
        return datetime.fromtimestamp(self.taken_at_ms / 1000, UTC)

    def to_json(self) -> str:
        """One line of JSON, keys in a fixed order."""
        out: dict[str, Any] = {"v": FORMAT, "id": self.id}
        for each in fields(self):
            value = getattr(self, each.name)
            out[each.name] = dict(value) if each.name == "counts" else value
        return json.dumps(out, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes | str, *, where: str) -> Manifest:
        """Parse what :meth:`to_json` wrote. Raises :class:`StoreDamaged` naming ``where``."""
        made = read_record(text, cls, where=where, what="a manifest", version=FORMAT)
        sizes = (made.state_bytes, made.stored_bytes, made.base_bytes, made.deltas_bytes, *made.counts.values())
        sane = made.chain[-1:] == (made.seq,) and min((made.epoch, *sizes)) >= 0 and min(made.chain) > 0
        if not sane or not 0 <= made.taken_at_ms < _LATEST_MS:
            raise StoreDamaged(f"{where}: not a manifest (a number is out of its range)")
        return made


@dataclass(frozen=True, slots=True)
class Head:
    """A member's newest snapshot and who may write the next one."""

    epoch: int
    owner: str
    manifest: Manifest
    accepted: str | None = None
    """The one incarnation that a person allowed to replace this head although its line is unknown."""
    rev: int = 0
    """Grows with each change of what is kept beside the head, so that a writer notices a pin."""
    live: int = 0
    """The seq that the readable hashes show; a large whole snapshot is acknowledged before they follow."""
    kept: int = -1
    """How many manifests are kept beside the recent ones, so that a lost record of them is noticed; -1: not said."""

    @property
    def seq(self) -> int:
        return self.manifest.seq

    @property
    def commit(self) -> str:
        return self.manifest.commit

    def to_fields(self) -> dict[str, str]:
        """The hash as it stands in Redis: readable with ``HGETALL``; ``manifest`` is the authority."""
        out = {
            "epoch": str(self.epoch),
            "owner": self.owner,
            "seq": str(self.seq),
            "id": self.manifest.id,
            "digest": self.manifest.digest,
            "takenAt": self.manifest.taken_at.isoformat(timespec="milliseconds"),
            "rev": str(self.rev),
            "live": str(self.live),
            "kept": str(self.kept),
            "manifest": self.manifest.to_json(),
        }
        return out if self.accepted is None else out | {"accepted": self.accepted}

    @classmethod
    def from_fields(cls, raw: Mapping[bytes, bytes], *, where: str) -> Head | None:
        """None for an empty hash; raises :class:`StoreDamaged` for one that is not a head."""
        if not raw:
            return None
        try:
            manifest = Manifest.from_json(raw[b"manifest"], where=where)
            accepted = raw[b"accepted"].decode() if b"accepted" in raw else None
            return cls(
                int(raw[b"epoch"]),
                raw[b"owner"].decode(),
                manifest,
                accepted,
                int(raw.get(b"rev", b"0")),
                int(raw[b"live"]),
                int(raw.get(b"kept", b"-1")),
            )
        except (ValueError, KeyError) as error:
            raise StoreDamaged(f"{where}: not a head ({type(error).__name__})") from error


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """All small records of one member, as one consistent read: head, recent manifests newest first, kept ones.

    ``damage`` names each stored record that is missing or cannot be read; the next commit writes them all anew.
    """

    head: Head | None = None
    recent: tuple[Manifest, ...] = ()
    kept: Mapping[int, Manifest] = field(default_factory=dict)
    damage: tuple[str, ...] = ()

    @property
    def lines(self) -> frozenset[str]:
        """Every line that a kept manifest carries, the head's included."""
        known = {each.line for each in self.all()}
        return frozenset(known | {self.head.manifest.line} if self.head else known)

    @property
    def kinds(self) -> frozenset[str]:
        """Every kind that a kept snapshot has, so every kind that may stand in the readable hashes."""
        return frozenset(kind for each in self.all() for kind in each.counts)

    def all(self) -> Iterable[Manifest]:
        """Every snapshot that can be restored, newest first, none twice."""
        seen = {each.seq: each for each in self.kept.values()} | {each.seq: each for each in self.recent}
        return [seen[seq] for seq in sorted(seen, reverse=True)]


def mended(found: MemberRecord, keys: MemberKeys) -> MemberRecord:
    """What follows from the records that could be read, where others are missing: nothing that stands is given up.

    The newest manifest says what the head said: its epoch and its writer. A list that does not begin with the head is
    taken to be behind it.
    """
    head, damage = found.head, list(found.damage)
    newest = next(iter(found.all()), None)
    if head is None and newest is not None:
        damage.append(f"{keys.head}: missing or unreadable; the newest snapshot that is listed stands for it")
        head = Head(newest.epoch, newest.writer, newest)
    if head is None:
        return found
    recent = tuple(each for each in found.recent if each.seq < head.seq)
    if [each.commit for each in found.recent[:1]] != [head.commit] or len(recent) + 1 != len(found.recent):
        damage.append(f"{keys.snapshots}: missing or older than the head")
    if head.kept > len(found.kept):
        damage.append(
            f"{keys.kept}: {head.kept - len(found.kept)} of {head.kept} kept snapshots are not there any more"
        )
    return MemberRecord(head, (head.manifest, *recent), found.kept, tuple(damage))


def keep(manifest: Manifest, reason: str) -> Manifest:
    """The same manifest, marked as kept for ``reason``."""
    return replace(manifest, kept_as=tuple(sorted({*manifest.kept_as, reason})))
