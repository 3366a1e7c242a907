"""The world that the protocol lives in, one immutable value: pods, their writers, the store, what really happened.

Nothing here decides anything. Records are the product's own dataclasses; ``ghosts`` is what no part of the product can
see: which state really descends from which. A move (moves.py) makes a new world out of an old one; dicts are copied
before they are changed and never changed afterwards.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from resonance.model.claim import Host, SlotRecord
from resonance.model.commit import CommitRequest
from resonance.model.manifest import MemberRecord

NOTHING = MemberRecord()
"""A member that never had a snapshot."""


class Stage(StrEnum):
    """How far a pod has come. STARTED pods with an app run; a bad image stays at CLAIMED."""

    NEW = "new"
    CLAIMED = "claimed"
    STARTED = "started"
    ENDED = "ended"


class Kube(StrEnum):
    """What the API server says about a pod. LOST: terminating on a node that it cannot reach; the process lives."""

    LIVE = "live"
    TERMINATING = "terminating"
    LOST = "lost"
    GONE = "gone"


class Mode(StrEnum):
    """What a writer may do: nothing yet, commit, or save aside because its member was taken."""

    NONE = "none"
    WRITING = "writing"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class App:
    """One process. ``state`` is the capture that its memory descends from, None when it began with nothing."""

    incarnation: str
    state: str | None
    restored_from: str | None


@dataclass(frozen=True, slots=True)
class RestoreFile:
    """The file on tmpfs: the snapshot id and commit that it says, and who may have written it."""

    id: str
    commit: str
    seq: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Writer:
    """The memory of one host that captures one pod: what it holds, last saw, last wrote."""

    mode: Mode = Mode.NONE
    member: str | None = None
    epoch: int = 0
    reserved: bool = False
    answered: bool = False
    bump_due: bool = False
    known: MemberRecord = NOTHING
    last: tuple[str, str] | None = None
    files: tuple[tuple[str, str], ...] = ()
    last_seq: int = 0
    nonce: int = 0
    pending: CommitRequest | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod: its object, its process, its tmpfs, and the writer beside it (the operator's, if ``host`` says so)."""

    uid: str
    template: int
    workload: str = "web"
    host: Host = Host.AGENT
    proves: bool = True
    bad_image: bool = False
    stage: Stage = Stage.NEW
    kube: Kube = Kube.LIVE
    reaches_store: bool = True
    app: App | None = None
    file: RestoreFile | None = None
    writer: Writer = Writer()
    second: Writer | None = None
    """A second operator that adopts the same pod."""
    initial: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """What Redis holds for one workload."""

    slots: Mapping[str, SlotRecord] = field(default_factory=dict)
    members: Mapping[str, MemberRecord] = field(default_factory=dict)
    wanted: int | None = None
    listed: frozenset[str] = frozenset()
    tips: Mapping[str, str] = field(default_factory=dict)
    suspects: Mapping[str, str] = field(default_factory=dict)
    """member → incarnation in its quarantine."""
    lease_over: frozenset[str] = frozenset()
    """Only earlier drafts look at this."""

    def key(self) -> Hashable:
        members = tuple((name, _record_key(each)) for name, each in sorted(self.members.items()))
        slots = tuple(sorted(self.slots.items(), key=lambda item: item[0]))
        others = (tuple(sorted(self.tips.items())), tuple(sorted(self.suspects.items())), self.lease_over)
        return (slots, members, self.wanted, self.listed, others)


def _record_key(record: MemberRecord) -> Hashable:
    head = record.head
    seen = None if head is None else (head.epoch, head.owner, head.commit, head.accepted)
    return (seen, tuple(each.commit for each in record.recent), frozenset(record.kept))


@dataclass(frozen=True, slots=True)
class Birth:
    """What really happened at one capture: the capture before it, and whose memory it is."""

    parent: str | None
    incarnation: str
    line: str
    """The incarnation that once began with nothing and whose memory went on until here."""
    before_first: bool = False
    """Taken while its member had no snapshot yet."""


@dataclass(frozen=True, slots=True)
class Ghosts:
    """What really happened. ``lost_by_fail_over`` is excluded from the promise, as the design says."""

    births: Mapping[str, Birth] = field(default_factory=dict)
    acknowledged: frozenset[str] = frozenset()
    lost_by_fail_over: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()
    writers: frozenset[tuple[str, str, int, str]] = frozenset()
    origins: Mapping[str, int] = field(default_factory=dict)
    """pod uid → number of the capture that it was started from, 0 for none."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything. ``budget`` says which faults may still happen, and how often."""

    pods: tuple[Pod, ...] = ()
    stores: Mapping[str, Store] = field(default_factory=dict)
    ghosts: Ghosts = Ghosts()
    replicas: int = 1
    template: int = 0
    surge: int = 0
    paused: bool = False
    late_releases: tuple[tuple[str, str, str], ...] = ()
    replica: Mapping[str, Store] | None = None
    """What the Redis replica has, once it stopped following."""
    budget: Mapping[str, int] = field(default_factory=dict)
    captures: int = 0
    processes: int = 0
    broken: str | None = None
    """The first invariant that a move broke."""

    def key(self) -> Hashable:
        """Equal for worlds that behave the same."""
        stores = tuple((name, each.key()) for name, each in sorted(self.stores.items()))
        behind = None if self.replica is None else tuple((k, each.key()) for k, each in sorted(self.replica.items()))
        pods = tuple(_pod_key(each) for each in self.pods)
        moods = (self.replicas, self.template, self.paused, self.late_releases, tuple(sorted(self.budget.items())))
        return (pods, stores, behind, moods, self.ghosts.acknowledged, self.ghosts.accepted, self.captures)

    def store(self, key: str) -> Store:
        return self.stores.get(key, Store())

    def with_store(self, key: str, store: Store) -> World:
        return replace(self, stores={**self.stores, key: store})

    def with_pod(self, index: int, pod: Pod) -> World:
        return replace(self, pods=(*self.pods[:index], pod, *self.pods[index + 1 :]))

    def index(self, uid: str) -> int | None:
        return next((at for at, each in enumerate(self.pods) if each.uid == uid), None)

    def spend(self, fault: str) -> World:
        return replace(self, budget={**self.budget, fault: self.budget[fault] - 1})

    def may(self, fault: str) -> bool:
        return self.budget.get(fault, 0) > 0

    def break_(self, what: str) -> World:
        return self if self.broken else replace(self, broken=what)


def _pod_key(pod: Pod) -> Hashable:
    return (
        *(getattr(pod, name) for name in _POD_FIELDS),
        _writer_key(pod.writer),
        pod.second and _writer_key(pod.second),
    )


_POD_FIELDS = tuple(name for name in Pod.__dataclass_fields__ if name not in {"writer", "second"})


def _writer_key(writer: Writer) -> Hashable:
    return (*(getattr(writer, name) for name in _WRITER_FIELDS), _record_key(writer.known))


_WRITER_FIELDS = tuple(name for name in Writer.__dataclass_fields__ if name != "known")


def number(commit: str | None) -> int:
    """Captures are numbered in the order in which they really happened: ``c7`` → 7; nothing → 0."""
    return 0 if commit is None else int(commit[1:])


def ancestors(births: Mapping[str, Birth], commit: str | None) -> frozenset[str]:
    """The capture itself and everything that its memory went through."""
    found = set()
    while commit is not None:
        found.add(commit)
        commit = births[commit].parent
    return frozenset(found)
