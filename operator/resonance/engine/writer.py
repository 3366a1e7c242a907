"""The writer of one member: turns captures into snapshots, and knows what it last saw and wrote.

States of a writer: it *knows nothing* (fresh, or after a conflict: the next capture loads the records and saves the
whole state), or it *knows its base* (the state that is head, so that the next capture sends only what changed). Only
one thread uses a writer at a time. If it dies at any point, a new one begins by knowing nothing; if the same capture
is committed twice, the second is a duplicate.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import assert_never

from resonance.model.commit import CommitRequest, Proof, Refusal, line_of, parent_of
from resonance.model.durability import Durability
from resonance.model.errors import StoreDamaged
from resonance.model.loss import Loss, lost
from resonance.model.manifest import Manifest, MemberRecord
from resonance.model.report import Outcome
from resonance.model.retention import DEFAULT, Retention
from resonance.reading import LARGE, Reading, lightened, read
from resonance.sealing import seal_document
from resonance.store.aside import keep_superseded, keep_suspect
from resonance.store.commit import Base, Change, Offer, Refused, change_from, commit, settle
from resonance.store.durable import confirm, confirm_again
from resonance.store.keyspace import Hash, Keyspace
from resonance.store.live import INLINE_BYTES
from resonance.store.member import Member, Seen, load

_FILES_KNOWN = 1024


@dataclass(frozen=True, slots=True)
class Capture:
    """One state read from the process, with everything that is fixed at that moment."""

    change: Change
    request: CommitRequest
    draft: Manifest
    proven: bool
    suspect: bool

    @property
    def id(self) -> str:
        return self.draft.id

    def lightened(self) -> Capture:
        """The same for keeping after it was saved: without the state before, and without a large document."""
        after = self.change.after
        if after.document is not None and len(after.document) > LARGE:
            after = replace(after, document=None)
        return replace(self, change=Change(after, self.change.digest, None, None, self.change.size))

    def repeated_by(self, later: Capture) -> bool:
        """True when ``later`` is the same state of the same process: then this capture still stands for it."""
        mine, its = self.request, later.request
        same_process = (mine.incarnation, mine.line, self.suspect) == (its.incarnation, its.line, later.suspect)
        return same_process and self.change.digest == later.change.digest and self.draft.counts == later.draft.counts


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a capture. ``manifest`` is the head's for good outcomes, else that of what was put aside."""

    outcome: Outcome
    manifest: Manifest
    evicted_tips: tuple[Manifest, ...] = ()
    durability: Durability = Durability.MEMORY
    """The level reached."""


class Writer:
    """Commits captures of one pod into one member. ``files`` maps snapshot id → commit of files this pod was given."""

    def __init__(  # noqa: PLR0913 - a composition: each is a port or a value of its own
        self,
        keyspace: Keyspace,
        member: Member,
        *,
        uid: str,
        pod: str,
        epoch: int,
        files: Mapping[str, str],
        last_seq: int = 0,
        trusted_lines: frozenset[str] = frozenset(),
        limits: Retention = DEFAULT,
    ) -> None:
        self._limits = limits
        self.member = member
        self.epoch = epoch
        self._keyspace = keyspace
        self._uid = uid
        self._pod = pod
        self.files = dict(files)
        self._parents: dict[str, str | None] = {}
        self.last_seq = last_seq
        self._trusted = trusted_lines
        self._nonce = uuid.uuid4().hex
        self._seen: Seen | None = None
        self._base: Base | None = None
        self._reading: Reading | None = None
        self._last: tuple[str, str] | None = None
        self._acknowledged_ms = -1
        self._acknowledged: Manifest | None = None
        self.loss: Loss | None = None
        """The newest loss of an acknowledged snapshot that this writer noticed."""

    @property
    def record(self) -> MemberRecord | None:
        """The member's records as last seen or written, None when nothing is known."""
        return self._seen.record if self._seen is not None else None

    def learn(self) -> None:
        """Read the member's records if nothing is known. Raises store errors."""
        if self._seen is None:
            self._seen = self._noticed(load(self._keyspace, self.member))
            self._base = None

    def _noticed(self, seen: Seen) -> Seen:
        """What was read or written, after a look at whether the newest acknowledged snapshot is in it."""
        found = lost(self._acknowledged, seen.record)
        if found is not None:
            self.loss, self._acknowledged = found, None
        return seen

    def reconnected(self) -> None:
        """The process may be another one: an app without headers is then not taken for the one before."""
        self._nonce = uuid.uuid4().hex

    def prepare(self, document: bytes, proof: Proof | None, *, taken_at_ms: int) -> Capture:
        """Parse an export and fix what belongs to this moment. Works without Redis. Raises ``StateNotUnderstood``."""
        packed = self._pack(document)
        self._reading = read(document, self._reading)
        state = self._reading.state
        record = self._seen.record if self._seen is not None else None
        head = record.head if record is not None else None
        base_seq = head.seq if head is not None else 0
        line = line_of(proof, head, self._nonce)
        parent = parent_of(proof, head, self._last, self.files, self._nonce)
        if head is not None:
            parent = self._descends(parent, head.commit)
        incarnation = proof.incarnation if proof is not None else self._nonce
        self.last_seq = max(self.last_seq, base_seq) + 1
        commit_id = uuid.uuid4().hex
        request = CommitRequest(self._uid, self.epoch, commit_id, self.last_seq, base_seq, line, incarnation, parent)
        change = change_from(self._base, state)
        if packed is not None and state.document is not None:
            change = replace(change, packed=packed)
        draft = Manifest(
            seq=self.last_seq,
            commit=commit_id,
            line=line,
            parent=parent,
            incarnation=incarnation,
            digest=change.digest,
            counts=state.counts(),
            state_bytes=0,
            stored_bytes=0,
            chain=(),
            proof="",
            taken_at_ms=taken_at_ms,
            writer=self._uid,
            pod=self._pod,
            epoch=self.epoch,
        )
        return Capture(change, request, draft, proof is not None, self._is_suspect(line, proof))

    def _pack(self, document: bytes) -> Future[bytes] | None:
        """Begin to seal a large document whose whole will be needed, while it is parsed; None where it will not."""
        if self._base is not None or len(document) <= INLINE_BYTES:
            return None
        pool = ThreadPoolExecutor(1)
        future = pool.submit(seal_document, document)
        pool.shutdown(wait=False)
        return future

    def _is_suspect(self, line: str, proof: Proof | None) -> bool:
        """True when the commit would be put in quarantine as far as is known: such a state never touches the file."""
        if proof is None:
            return False
        if self._seen is None:
            return line not in self._trusted
        head = self._seen.record.head
        return head is not None and line not in self._seen.record.lines and head.accepted != proof.incarnation

    def filed(self, capture: Capture) -> None:
        """The capture was written to the restore file: a process that loads it descends from this commit."""
        self.files[capture.id] = capture.request.commit
        self._parents[capture.request.commit] = capture.request.parent
        for known in (self.files, self._parents):
            while len(known) > _FILES_KNOWN:  # forgetting one costs a kept tip at most
                del known[next(iter(known))]

    def _descends(self, parent: str | None, head: str) -> str | None:
        """``head`` if the parent descends from it over captures that were filed but not committed, else the parent."""
        at, steps = parent, 0
        while at is not None and at != head and steps <= len(self._parents):
            at, steps = self._parents.get(at), steps + 1
        return head if at == head else parent

    def unchanged(self, capture: Capture) -> Manifest | None:
        """The head's manifest if the capture is byte for byte the head and the head still stands, else None."""
        head = self._seen.record.head if self._seen is not None else None
        if self._seen is None or head is None or capture.suspect or head.owner != self._uid or head.epoch != self.epoch:
            return None
        if head.manifest.digest != capture.change.digest or dict(head.manifest.counts) != capture.draft.counts:
            return None
        found = self._keyspace.read([Hash(self.member.keys.head)])
        return head.manifest if found.hash(0) == dict(self._seen.raw_head) else None

    def commit(self, capture: Capture, *, level: Durability = Durability.MEMORY) -> Written:
        """Make the capture the head, or put it where it belongs.

        A level that is not reached is no failure: the snapshot is in the primary's memory, and the answer says so.
        Raises store errors; then call again with the same one.
        """
        same = self.unchanged(capture)
        if same is not None and self._seen is not None:
            self._acknowledged = same
            self._seen, reached = confirm_again(self._keyspace, self.member, self._seen, level)
            return Written(Outcome.UNCHANGED, same, durability=reached)
        if self._seen is None:
            self._seen = self._noticed(load(self._keyspace, self.member))
            if self._seen.record.head is not None:
                return self._after_refusal(capture, Refusal.CONFLICT, level)
        offer = Offer(capture.request, capture.change, capture.draft, self._limits)
        try:
            result = commit(self._keyspace, self.member, self._seen, offer)
        except StoreDamaged:
            self._seen = self._base = None  # the next capture looks anew, and goes along whole
            raise
        self._seen = self._noticed(result.seen)
        if isinstance(result, Refused):
            return self._after_refusal(capture, result.why, level)
        self._stands(capture, result.manifest)
        self._seen, reached = confirm(self._keyspace, self.member, result.seen, level)
        return Written(_outcome(level, reached), result.manifest, result.evicted_tips, reached)

    def _stands(self, capture: Capture, manifest: Manifest) -> None:
        """The capture is the member's head, as ``manifest``."""
        self._base = Base(replace(capture.change.after, document=None), capture.change.digest)
        self._last = (capture.request.incarnation, capture.request.commit)
        self._acknowledged, self._acknowledged_ms = manifest, capture.draft.taken_at_ms

    def settle(self) -> None:
        """Let the readable hashes show the head that this writer committed. Raises store errors; safe to leave out."""
        if self._reading is not None:
            self._reading = lightened(self._reading)
        if self._seen is not None and self._base is not None:
            self._seen = settle(self._keyspace, self.member, self._seen, self._base.state)

    def put_aside(self, capture: Capture) -> Written:
        """Keep the capture beside the member's history, where nothing restores it by itself. Raises store errors."""
        self._base = None
        keep_superseded(self._keyspace, self.member.keys, capture.draft, capture.change.after, self._acknowledged_ms)
        return Written(Outcome.SUPERSEDED, capture.draft)

    def _after_refusal(self, capture: Capture, why: Refusal, level: Durability) -> Written:
        match why:
            case Refusal.DUPLICATE:
                record = self.record
                stands = record.head.manifest if record is not None and record.head is not None else capture.draft
                self._stands(capture, stands)
                reached = Durability.MEMORY
                if self._seen is not None:
                    self._seen, reached = confirm_again(self._keyspace, self.member, self._seen, level)
                return Written(_outcome(level, reached), stands, durability=reached)
            case Refusal.CONFLICT:
                self._base = None
                return Written(Outcome.CONFLICT, capture.draft)
            case Refusal.NOT_HELD:
                return replace(self.put_aside(capture), outcome=Outcome.NOT_HELD)
            case Refusal.QUARANTINED:
                keep_suspect(self._keyspace, self.member.keys, capture.draft, capture.change.after)
                return Written(Outcome.QUARANTINED, capture.draft)
            case Refusal.FENCED:
                return self.put_aside(capture)
            case _:
                assert_never(why)


def _outcome(asked: Durability, reached: Durability) -> Outcome:
    """Saved, and whether by as much as was asked."""
    if reached is asked:
        return Outcome.SAVED
    return Outcome.SAVED_UNSYNCED if asked is Durability.FSYNC else Outcome.SAVED_UNREPLICATED
