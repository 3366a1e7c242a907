"""One member, the pods that write it, and the witness who knows what must be restorable.

The witness looks at the records after every write and notes each commit that became head. From that history alone, and
from what each process sent, it knows what a restore has to give; it never asks the code under test.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from resonance.codec import encode_state
from resonance.engine.writer import Capture, Writer
from resonance.model.claim import Claimant, Identity, Wait
from resonance.model.commit import Proof
from resonance.model.errors import InvalidInput, StoreUnreachable
from resonance.model.manifest import Head, Manifest
from resonance.model.naming import workload_keys
from resonance.model.report import GOOD, Outcome
from resonance.model.retention import PIN, TIP, Retention
from resonance.model.state import State
from resonance.store.catalogue import accept, pin, unpin
from resonance.store.keyspace import Hash, Keyspace
from resonance.store.member import Member, load
from resonance.store.restore import restore
from resonance.store.workload import claim
from tests.faults.faulty import Crash, Fault, FaultyKeyspace, Plan

LIMITS = Retention(recent=4, hourly=0, daily=0, tips=2)
MAX_BYTES = 64 << 20
KEYS = workload_keys("resonance", "shop", "web", "StatefulSet.web")
MEMBER = Member("web-0", KEYS.member("web-0"), KEYS)

_noise = random.Random(1)
WIDE = [b'{"pad":"%s"}' % _noise.randbytes(size).hex().encode() for size in (40_000, 90_000, 160_000)]
"""Objects that no compressor shrinks below half: two or three of them need staging, the blob too."""

Dump = Callable[[], Mapping[str, object]]


@dataclass(slots=True)
class Process:
    """The app: its state, and what it says about where that came from."""

    incarnation: str
    restored_from: str | None
    state: State

    @property
    def proof(self) -> Proof:
        return Proof(self.incarnation, self.restored_from)


@dataclass(slots=True)
class Pod:
    """One pod. ``file`` is its restore file: what a process that restarts in place loads."""

    uid: str
    keyspace: FaultyKeyspace
    writer: Writer
    process: Process
    file: tuple[str, State] | None = None
    files: dict[str, str] = field(default_factory=dict)
    last_seq: int = 0
    pending: Capture | None = None


class Broken(AssertionError):
    """A law does not hold."""


class World:
    """Everything around one member. ``dump`` gives every key with its value."""

    def __init__(self, keyspace: Keyspace, dump: Dump) -> None:
        self._keyspace = keyspace
        self._dump = dump
        self.pods: list[Pod] = []
        self.sent: dict[str, State] = {}
        self.empty: set[str] = set()
        """Incarnations that started empty and did not become head rightly."""
        self.allowed: str | None = None
        """The one incarnation that a person allowed to become head."""
        self.history: list[str] = []
        self.tips: list[str] = []
        self.acknowledged: set[str] = set()
        self.pinned: dict[int, str] = {}
        self._numbers = 0
        self._newest: bytes | None = None

    # -------------------------------------------------------------------------------------------------- the witness
    def watch(self) -> None:
        """Note a new head, and whether the one before it has to stay as a tip."""
        raw = self._keyspace.read([Hash(MEMBER.keys.head)]).hash(0)
        if raw.get(b"manifest") == self._newest:
            return
        self._newest = raw.get(b"manifest")
        head = Head.from_fields(raw, where=MEMBER.keys.head)
        if head is None:
            raise Broken("the head is gone")
        _demand(head.commit not in self.history, f"{head.manifest.id} became head twice")
        _demand(head.commit in self.sent, f"{head.manifest.id} was never sent")
        first = not self.history
        if first or head.manifest.incarnation == self.allowed:
            self.empty.discard(head.manifest.incarnation)
            self.allowed = None
        _demand(head.manifest.incarnation not in self.empty, f"empty {head.manifest.incarnation} became head")
        if not first and head.manifest.parent != self.history[-1]:
            self.tips.append(self.history[-1])
        self.history.append(head.commit)

    def verify(self) -> None:
        """Every snapshot that retention must not have dropped stands, and each that stands restores exactly."""
        seen = load(self._keyspace, MEMBER)
        record = seen.record
        _demand(
            [each.commit for each in reversed(record.recent)] == self.history[-LIMITS.recent :], "the list is wrong"
        )
        _demand((record.head.commit if record.head else None) == (self.history[-1] if self.history else None), "head")
        _demand(self.acknowledged <= set(self.history), "an acknowledged snapshot never was head")
        standing = {each.commit: each for each in record.all()}
        must = {*self.history[-LIMITS.recent :], *self.tips[-LIMITS.tips :], *self.pinned.values()}
        _demand(must <= standing.keys(), f"{must - standing.keys()} dropped too early")
        seqs = [each.seq for each in record.recent]
        _demand(seqs == sorted(set(seqs), reverse=True), f"seqs {seqs}")
        if record.head is not None and record.head.live == record.head.seq:
            shown = {
                kind: self._keyspace.read([Hash(MEMBER.keys.live(kind))]).hash(0)
                for kind in record.head.manifest.counts
            }
            saved = self.sent[record.head.commit].kinds
            _demand(
                shown == {kind: {key.encode(): raw for key, raw in each.items()} for kind, each in saved.items()},
                "the readable hashes show another state",
            )
        for each in standing.values():
            given = restore(self._keyspace, MEMBER, seen, max_bytes=MAX_BYTES, wanted=each.__eq__)
            if given is None or given.skipped:
                raise Broken(f"{each.id} does not restore: {given}")
            _demand(given.state == self.sent[each.commit], f"{each.id} restores to another state")
            reasons = set(each.kept_as) | ({"recent"} if each.commit in self.history[-LIMITS.recent :] else set())
            _demand(bool(reasons & {TIP, PIN, "recent"}), f"{each.id} stays for no reason")

    def settle(self) -> None:
        """Once the faults are over, the pod that holds the member and did not start empty can save."""
        pod = self.pods[-1]
        restored = pod.process.restored_from
        line = restored.rpartition(".")[0] if restored is not None else pod.process.incarnation
        if self.history and pod.process.incarnation != self.allowed and line not in self._lines():
            return
        self.change(pod, 1)
        outcomes = [self.save(pod, Plan()) for _ in range(3)]
        if not GOOD & set(outcomes):  # a fail-over lost its claim: as in a session, it claims anew
            self._claim(pod)
            outcomes += [self.save(pod, Plan()) for _ in range(3)]
        _demand(bool(GOOD & set(outcomes)), f"the holder cannot save: {outcomes}")

    def _claim(self, pod: Pod) -> None:
        taken = claim(pod.keyspace, KEYS, Claimant(pod.uid, pod.uid, "t", Identity.POD_NAME, MEMBER.name))
        if isinstance(taken, Wait):
            raise Broken("a named pod has to wait")
        pod.writer = self._writer(pod.keyspace, pod.uid, taken.epoch, pod.writer.files, pod.writer.last_seq)

    def _lines(self) -> frozenset[str]:
        return load(self._keyspace, MEMBER).record.lines

    def remember(self) -> Callable[[], None]:
        """What a fail-over to a replica that lags to this moment does to the witness."""
        history, tips, pinned = list(self.history), list(self.tips), dict(self.pinned)
        acknowledged, allowed = set(self.acknowledged), self.allowed

        def fall_back() -> None:
            self.history, self.tips, self.pinned = list(history), list(tips), dict(pinned)
            self.acknowledged, self.allowed = set(acknowledged), allowed
            self._newest = None if not history else self._newest_raw()

        return fall_back

    def _newest_raw(self) -> bytes | None:
        return self._keyspace.read([Hash(MEMBER.keys.head)]).hash(0).get(b"manifest")

    def newest(self) -> tuple[Manifest, State] | None:
        """What a restore gives now."""
        seen = load(self._keyspace, MEMBER)
        if seen.record.head is None:
            return None
        given = restore(self._keyspace, MEMBER, seen, max_bytes=MAX_BYTES)
        if given is None:
            raise Broken("a head is there and nothing verifies")
        return given.manifest, given.state

    def _name(self, what: str) -> str:
        self._numbers += 1
        return f"{what}-{self._numbers}"

    # ------------------------------------------------------------------------------------------------------ the pods
    def start(self, *, empty: bool = False) -> Pod:
        """A new pod takes the member and its process starts with what a restore gives; ``empty`` ignores that."""
        uid = self._name("pod")
        keyspace = FaultyKeyspace(self._keyspace, self.watch)
        taken = claim(keyspace, KEYS, Claimant(uid, uid, "t", Identity.POD_NAME, MEMBER.name))
        if isinstance(taken, Wait):
            raise Broken("a named pod has to wait")
        process = Process(self._name("process"), None, State({"nodes": {}}))
        made = Pod(uid, keyspace, self._writer(keyspace, uid, taken.epoch, {}, 0), process)
        given = self.newest()
        if given is not None:
            manifest, state = given
            made.file, made.files, made.last_seq = (manifest.id, state), {manifest.id: manifest.commit}, manifest.seq
            made.writer = self._writer(keyspace, uid, taken.epoch, made.files, made.last_seq)
        self.pods.append(made)
        self._boot(made, empty=empty)
        return made

    def _writer(self, keyspace: Keyspace, uid: str, epoch: int, files: Mapping[str, str], last_seq: int) -> Writer:
        return Writer(keyspace, MEMBER, uid=uid, pod=uid, epoch=epoch, files=files, last_seq=last_seq, limits=LIMITS)

    def _boot(self, pod: Pod, *, empty: bool) -> None:
        """The process starts (again), from the pod's file if there is one."""
        incarnation = self._name("process")
        if pod.file is None or empty:
            pod.process = Process(incarnation, None, State({"nodes": {}}))
            self.empty.add(incarnation)
        else:
            pod.process = Process(incarnation, pod.file[0], pod.file[1])

    def restart_process(self, pod: Pod, *, empty: bool = False) -> None:
        """The app's container dies and starts in place."""
        self._boot(pod, empty=empty)

    def restart_agent(self, pod: Pod) -> None:
        """The agent dies and starts: it knows its claim and the files that it wrote, nothing else."""
        epoch = pod.writer.epoch
        pod.files = dict(pod.writer.files)
        pod.last_seq = max(pod.last_seq, pod.writer.last_seq)
        pod.writer = self._writer(pod.keyspace, pod.uid, epoch, pod.files, pod.last_seq)
        pod.pending = None

    def change(self, pod: Pod, seed: int) -> None:
        """The process goes on: some entries come, some go, sometimes large ones, now and then everything."""
        chance = random.Random(seed)
        kinds = {kind: dict(entries) for kind, entries in pod.process.state.kinds.items()}
        for _ in range(chance.randrange(1, 4)):
            entries = kinds.setdefault(chance.choice(["nodes", "fields"]), {})
            key = f"n{chance.randrange(6)}"
            match chance.randrange(16):
                case 0:
                    entries.pop(key, None)
                case 1:
                    entries[key] = chance.choice(WIDE)
                case 2:
                    kinds.pop("fields", None)
                case _:
                    entries[key] = b'{"phase":%d}' % chance.randrange(1000)
        metrics = chance.choice([None, b'{"tick":%d}' % seed, pod.process.state.metrics])
        pod.process.state = State(kinds, metrics)

    def save(self, pod: Pod, plan: Plan) -> Outcome | None:
        """One turn of the agent under a fault: capture, file, commit. None when it did not come to an outcome."""
        pod.keyspace.plan = plan
        try:
            with contextlib.suppress(StoreUnreachable):  # as in a session: the capture reaches the file all the same
                pod.writer.learn()
            capture = self._capture(pod)
            return self._commit(pod, capture)
        except Crash:
            self.restart_agent(pod)
            return None
        except StoreUnreachable:
            return None
        finally:
            pod.keyspace.plan = Plan()

    def retry(self, pod: Pod, plan: Plan) -> Outcome | None:
        """Commit the capture whose reply was lost once more."""
        if pod.pending is None:
            return None
        pod.keyspace.plan = plan
        try:
            return self._commit(pod, pod.pending)
        except Crash:
            self.restart_agent(pod)
            return None
        except StoreUnreachable:
            return None
        finally:
            pod.keyspace.plan = Plan()

    def _capture(self, pod: Pod) -> Capture:
        capture = pod.writer.prepare(encode_state(pod.process.state), pod.process.proof, taken_at_ms=1)
        self.sent[capture.request.commit] = pod.process.state
        pod.pending = capture
        if not capture.suspect:
            pod.file = (capture.id, pod.process.state)
            pod.writer.filed(capture)
        return capture

    def _commit(self, pod: Pod, capture: Capture) -> Outcome:
        before = self._quiet_dump() if self._fenced(pod) else None
        outcome = pod.writer.commit(capture).outcome
        self.watch()
        if before is not None:
            _demand(outcome is not Outcome.SAVED, "a fenced pod saved")
            _demand(self._quiet_dump(pod) == _without_tip(before, pod), "a fenced pod changed something")
        if outcome in GOOD:
            head = self.history[-1] if self.history else ""
            if outcome is Outcome.SAVED:
                self.acknowledged.add(capture.request.commit)
                pod.writer.settle()
            else:
                _demand(self.sent[head] == capture.change.after, "unchanged, but the head is another state")
        pod.pending = None
        return outcome

    def _fenced(self, pod: Pod) -> bool:
        epoch = int(self._keyspace.read([Hash(MEMBER.keys.head)]).hash(0).get(b"epoch", b"0"))
        return pod.writer.epoch < epoch and pod.keyspace.plan.fault is not Fault.INTERLEAVE

    def _quiet_dump(self, but: Pod | None = None) -> Mapping[str, object]:
        """Every key but stages, which nobody reads and which expire."""
        found = {key: value for key, value in self._dump().items() if ":stage:" not in key}
        return _without_tip(found, but) if but is not None else found

    # ----------------------------------------------------------------------------------------------------- the people
    def toggle_pin(self, pick: int) -> None:
        """Somebody pins a snapshot, or unpins it."""
        standing = list(load(self._keyspace, MEMBER).record.all())
        if not standing:
            return
        each = standing[pick % len(standing)]
        if each.seq in self.pinned:
            unpin(self._keyspace, MEMBER, each.seq)
            del self.pinned[each.seq]
        else:
            pin(self._keyspace, MEMBER, each.seq)
            self.pinned[each.seq] = each.commit

    def accept(self, pod: Pod) -> None:
        """Somebody lets this very process replace the head."""
        try:
            accept(self._keyspace, MEMBER, pod.process.incarnation)
        except InvalidInput:
            return
        self.allowed = pod.process.incarnation


def _without_tip(found: Mapping[str, object], pod: Pod) -> Mapping[str, object]:
    """Without what a superseded pod may write: its own state aside, and that it is there."""
    own = {MEMBER.keys.tip(pod.uid), MEMBER.keys.aside}
    return {key: value for key, value in found.items() if key not in own}


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)
