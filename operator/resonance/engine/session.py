"""One pod's snapshots, turn by turn: capture, restore file, commit, report. The same code in the agent and the
operator.

The order is the promise. The file is written before the commit, so that an app which dies in between restarts with what
is about to be acknowledged; a capture that failed, is cut short or would be put in quarantine never touches it. A
commit that Redis did not answer stays pending: the next turn replaces it by a newer capture, or commits it again as
the same one.

States of a session: *unclaimed* (no member yet: captures only reach the file), *holding*, *superseded* (another pod
writes the member: captures go into a key of their own, never restored by itself). Unless it holds, each turn claims
anew, which the store grants only to a pod that the operator lists. One thread at a time; the host owns the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from resonance.codec import restore_file_parts
from resonance.engine.starting import snapshot_of
from resonance.engine.writer import Capture, Writer, Written
from resonance.model.claim import Claimant, Phase, SlotRecord, Wait
from resonance.model.commit import Proof
from resonance.model.durability import Durability
from resonance.model.errors import (
    CaptureFailed,
    ResonanceError,
    SourceNotReady,
    StateNotUnderstood,
    StateTooLarge,
    StoreError,
)
from resonance.model.naming import WorkloadKeys
from resonance.model.report import GOOD, Outcome, Report
from resonance.source import Export, Source
from resonance.store.keyspace import Field, FieldIs, Keyspace
from resonance.store.member import Member
from resonance.store.workload import Claim, PolicyRecord, answer, claim, read_slot, release, say_waiting, stop_waiting

_CONFLICT_ATTEMPTS = 3


class RestoreFile(Protocol):
    """Where the newest good capture is kept for a container that restarts in place."""

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Replace the file as a whole: a reader sees the old or the new one."""


@dataclass(frozen=True, slots=True)
class Now:
    """The host's clocks at one moment: ``wall_ms`` for people, ``steady_ms`` for durations."""

    wall_ms: int
    steady_ms: int


class Clock(Protocol):
    """The composition root's clock."""

    def __call__(self) -> Now: ...


@dataclass(frozen=True, slots=True)
class Given:
    """What a session begins with: the claim of the init hook, if there was one, and what its file may be.

    ``files`` maps snapshot id → commit of the restore files that this pod was given; ``last_seq`` is the highest seq of
    them; ``lines`` are the lines known to be the member's.
    """

    claim: Claim | None = None
    files: Mapping[str, str] | None = None
    last_seq: int = 0
    lines: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Polled:
    """What the store says to a running pod between its turns."""

    record: SlotRecord | None
    policy: PolicyRecord | None
    asked_to_hand_over: bool
    lost: bool


class Session:
    """Snapshots one pod."""

    def __init__(  # noqa: PLR0913 - a composition: each is a port or a value of its own
        self,
        keyspace: Keyspace,
        keys: WorkloadKeys,
        who: Claimant,
        source: Source,
        clock: Clock,
        *,
        file: RestoreFile | None,
        given: Given,
        report: Report,
    ) -> None:
        self.replicas = 0
        self.durability = Durability.MEMORY
        """What is asked for where there is no replica."""
        self.leaving = False
        """The pod is about to end: a newcomer that never committed then leaves the member to its holder."""
        self.report = report
        self.note = ""
        """What the host has to say of a good turn, for the report."""
        self.capture_ms = 0
        """What the last capture alone took: read, parsed and kept in the file."""
        self._keyspace = keyspace
        self._keys = keys
        self._who = who
        self._source = source
        self._clock = clock
        self._file = file
        self._given = given
        self._claim: Claim | None = None
        self._orphan: Writer | None = None
        self._writer: Writer | None = None
        self._writer = self._writer_of(given.claim) if given.claim is not None else None
        self._etag: str | None = None
        self._pending: Capture | None = None
        self._pending_at = Now(0, 0)
        self._good_at: Now | None = None
        self._connection = 0
        self._superseded = False
        self._lost = False

    @property
    def claim(self) -> Claim | None:
        """What this session writes by, None while unclaimed."""
        return self._claim

    @property
    def good_at(self) -> Now | None:
        """When the newest state that is head was captured, None before the first."""
        return self._good_at

    @property
    def member(self) -> str | None:
        """The member's name, None while unclaimed."""
        return self._writer.member.name if self._writer is not None else None

    def _writer_of(self, taken: Claim) -> Writer:
        """A writer that knows every restore file which this pod was given or wrote, under whatever claim."""
        self._claim = taken
        return self._writer_at(Member(taken.member, self._keys.member(taken.member), self._keys), taken.epoch)

    def _writer_at(self, member: Member, epoch: int) -> Writer:
        before = self._writer if self._writer is not None else self._orphan
        return Writer(
            self._keyspace,
            member,
            uid=self._who.uid,
            pod=self._who.pod,
            epoch=epoch,
            files=before.files if before is not None else self._given.files or {},
            last_seq=before.last_seq if before is not None else self._given.last_seq,
            trusted_lines=self._given.lines,
        )

    def _nobody(self) -> Writer:
        """A writer without a member: it parses and keeps the file; its lines are only those that are trusted."""
        if self._orphan is None:
            self._orphan = self._writer_at(Member("", self._keys.member("unclaimed"), self._keys), 0)
        return self._orphan

    def turn(self) -> Report:
        """Capture, keep in the file, commit and report once. Never raises: what went wrong is in the report.

        Returns the report with how the turn ended; it also stands in Redis if Redis could be reached.
        """
        began = self._clock()
        try:
            outcome, message = self._turn()
        except ResonanceError as error:
            outcome, message = _outcome_of(error), str(error)
        ended = self._clock()
        self.report = replace(
            self.report, outcome=outcome, message=message or self.note, duration_ms=ended.steady_ms - began.steady_ms
        )
        self.send_report()
        self._settle()
        return self.report

    def _settle(self) -> None:
        """Bring the readable copy up to date after the acknowledgement; what fails now is done at the next turn."""
        if self._writer is None or self.report.outcome not in GOOD:
            return
        self._pending = self._pending.lightened() if self._pending is not None else None
        try:
            self._writer.settle()
        except StoreError:
            return

    @property
    def _level(self) -> Durability:
        """A replica confirms where there is one; else what the host asked for."""
        return Durability.REPLICA if self.replicas else self.durability

    def _turn(self) -> tuple[Outcome, str]:
        waits = self._ensure_claim()
        for _ in range(_CONFLICT_ATTEMPTS):
            capture = self._capture()
            if self._writer is None:
                return Outcome.NOT_HELD, waits
            if self.leaving and self._still_newcomer():
                return self._concluded(self._writer.put_aside(capture))
            written = self._writer.commit(capture, level=self._level)
            if written.outcome is not Outcome.CONFLICT:
                return self._concluded(written)
            self._forget_capture()
        return Outcome.CONFLICT, "another writer commits for the same process. The next turn tries again."

    def _ensure_claim(self) -> str:
        """Claim a member unless one is held; say why it can't be claimed now. Without Redis an old claim goes on."""
        try:
            if self._writer is not None and not self._lost:
                self._writer.learn()
                return ""
            taken = claim(self._keyspace, self._keys, self._who)
            if isinstance(taken, Wait):
                say_waiting(self._keyspace, self._keys, self._who.uid, self._who.pod, taken.reason)
                return f"this pod has no member to write: {taken.reason}. Its state stays in the pod."
            self._writer, self._lost, self._superseded = self._writer_of(taken), False, False
            self._forget_capture()
            self._writer.learn()
            stop_waiting(self._keyspace, self._keys, [self._who.uid])
        except StoreError as error:
            return str(error)
        return ""

    def _still_newcomer(self) -> bool:
        """True while another pod holds the member that we have only reserved. Raises store errors."""
        if self._claim is None or not self._claim.reserved or self._good_at is not None:
            return False
        record, _ = read_slot(self._keyspace, self._keys, self._claim.member)
        return record is not None and record.next is not None and record.next.uid == self._who.uid

    def _capture(self) -> Capture:
        began = self._clock()
        try:
            return self._captured(began)
        finally:
            self.capture_ms = self._clock().steady_ms - began.steady_ms

    def _captured(self, now: Now) -> Capture:
        export = self._source.read(self._etag if self._pending is not None else None)
        if export.proof is None and export.connection != self._connection and self._writer is not None:
            self._writer.reconnected()
        self._connection = export.connection
        if export.document is None and self._pending is not None:
            self._pending_at = now
            return self._pending
        writer = self._writer if self._writer is not None else self._nobody()
        capture = writer.prepare(export.document or b"", export.proof, taken_at_ms=now.wall_ms)
        self.report = replace(
            self.report,
            incarnation=capture.request.incarnation,
            proven=capture.proven,
            restored_from=(export.proof.restored_from or "none") if export.proof is not None else "",
        )
        self._pending_at, self._etag = now, export.etag
        if self._pending is not None and self._pending.repeated_by(capture):
            return self._pending
        self._pending = capture
        if not capture.suspect and self._file is not None:
            manifest = replace(capture.draft, epoch=writer.epoch)
            self._file.write(restore_file_parts(capture.change.after, snapshot_of(manifest)))
            writer.filed(capture)
        return capture

    def _concluded(self, written: Written) -> tuple[Outcome, str]:
        manifest = written.manifest
        if written.outcome in GOOD:
            gap = self._pending_at.steady_ms - self._good_at.steady_ms if self._good_at is not None else -1
            self._good_at = self._pending_at
            self._superseded = False
            self.report = replace(
                self.report,
                gap_ms=gap,
                seq=manifest.seq,
                id=manifest.id,
                stored_bytes=manifest.stored_bytes,
                state_bytes=manifest.state_bytes,
                quarantined="",
                evicted_tips=self.report.evicted_tips + len(written.evicted_tips),
                durability=str(written.durability),
            )
            return written.outcome, self._loss()
        if written.outcome is Outcome.QUARANTINED:
            self.report = replace(self.report, quarantined=manifest.incarnation)
            return written.outcome, (
                f"process {manifest.incarnation} does not prove that it restored this member's state; its captures "
                "are put aside. Fix the app's restore, or accept this incarnation."
            )
        self._superseded = True
        self.lose_member()
        return written.outcome, "another pod writes this member now; this pod's state is kept aside and not restored."

    def _loss(self) -> str:
        """What the writer noticed to be lost since this was asked last; the report names it for as long as we live."""
        found = self._writer.loss if self._writer is not None else None
        if self._writer is None or found is None:
            return ""
        self._writer.loss = None
        self.report = replace(self.report, lost_acknowledged=found.lost.id)
        return found.message

    def _forget_capture(self) -> None:
        self._pending, self._etag = None, None

    def lose_member(self) -> None:
        """The member is another pod's, or nobody's: go on aside, and claim anew at each turn. A release is final."""
        self._who = replace(self._who, previous=self.member, phase=Phase.RUNNING)
        self._lost = True

    def send_report(self) -> None:
        """Write the report to Redis, stamped with its clock; not when Redis is away or another pod reports."""
        name = self.member
        newcomer = self._claim is not None and self._claim.reserved and self._good_at is None
        if name is None or self._superseded or newcomer:
            return
        guard = self._reports(name)
        if guard is None:
            return
        ago = self._clock().steady_ms - self._good_at.steady_ms if self._good_at is not None else -1
        self.report = replace(self.report, taken_ago_ms=ago)
        key = self._keys.member(name).report
        fields = [each for pair in self.report.to_fields().items() for each in pair]
        try:
            self._keyspace.apply([guard], [("HSET", key, *fields), ("HSETNOW", key, "at_ms")])
        except StoreError:
            return

    def _reports(self, name: str) -> FieldIs | None:
        """The guard of a report: the record as it names us. None when another pod speaks for the member."""
        try:
            raw = self._keyspace.read([Field(self._keys.slots, name)]).text(0)
            if raw is not None and SlotRecord.from_json(name, raw).holder != self._who.uid:
                return None
        except StoreError:
            return None
        return FieldIs(self._keys.slots, name, raw)

    def poll(self) -> Polled:
        """Whether somebody waits for a hand-over, and whether the member is still ours. Raises store errors."""
        name = self.member
        record, policy = read_slot(self._keyspace, self._keys, name or "")
        uid = self._who.uid
        epoch = self._claim.epoch if self._claim is not None else 0
        ours = record is not None and record.names(uid, epoch)
        right = record is None or record.holder != uid or record.describes(self._who)
        asked = record is not None and record.holder == uid and record.next is not None and not record.next.answered
        return Polled(record, policy, asked, lost=name is not None and not (ours and right))

    def hand_over(self) -> Report:
        """Commit once more for a waiting newcomer and answer it; its first commit will end our right to write."""
        report = self.turn()
        name = self.member
        if name is not None and report.outcome in GOOD:
            try:
                answer(self._keyspace, self._keys, name, self._who.uid)
            except StoreError:
                return report
        return report

    def forget_process(self) -> None:
        """The app may have been replaced since the last capture: what is committed next proves nothing by it."""
        self.report = replace(self.report, incarnation="", proven=False)
        if self._writer is not None:
            self._writer.reconnected()

    def commit_document(self, document: bytes) -> Report:
        """Commit a state that the process wrote as its last words, under the proof of its last capture."""
        source, self._source = self._source, _Fixed(document, self._source, self.report, self._connection)
        self._forget_capture()
        try:
            return self.turn()
        finally:
            self._source = source

    def release(self) -> None:
        """Give the member back. Safe to repeat. Raises store errors; the operator releases when this could not."""
        name = self.member
        if name is not None:
            release(self._keyspace, self._keys, name, self._who.uid)

    def close(self) -> None:
        """Close the source; the keyspace belongs to the caller."""
        self._source.close()


class _Fixed:
    """A source that gives one document with the proof that the process gave last."""

    def __init__(self, document: bytes, source: Source, report: Report, connection: int) -> None:
        self._document = document
        self._source = source
        self._connection = connection
        restored = None if report.restored_from == "none" else report.restored_from
        self._proof = Proof(report.incarnation, restored) if report.proven and report.incarnation else None

    def read(self, etag: str | None) -> Export:
        del etag
        return Export(self._document, self._proof, None, self._connection)

    def close(self) -> None:
        self._source.close()


def _outcome_of(error: ResonanceError) -> Outcome:
    match error:
        case SourceNotReady():
            return Outcome.NOT_READY
        case StateTooLarge():
            return Outcome.TOO_LARGE
        case StateNotUnderstood():
            return Outcome.NOT_UNDERSTOOD
        case CaptureFailed():
            return Outcome.CAPTURE_FAILED
        case _:
            return Outcome.STORE_AWAY
