"""What a host does for one pod besides capturing, each a move of the world: claim, restore, poll, release.

Mirrors the agent and the adopting operator step by step.
"""

from __future__ import annotations

from dataclasses import replace

from resonance.model.claim import Claimant, Hold, Host, Identity, Phase, Reserve, SlotRecord, Take, Wait, decide_answer
from resonance.model.naming import slot_member
from resonance.model.restore import CannotTell, Give, KeepFile, LocalFile
from tests.protocol import invariants
from tests.protocol.commits import Which, flush, member_record, with_writer, writer_of
from tests.protocol.rules import EpochMoves, Newcomer, Released, Rules
from tests.protocol.world import App, Mode, Pod, RestoreFile, Stage, World, Writer

# ------------------------------------------------------------------------------------------------------------- claims


def claimant(world: World, rules: Rules, pod: Pod, writer: Writer) -> Claimant:
    listed = pod.uid in world.store(rules.key_of(pod)).listed
    phase = Phase.STARTING if pod.stage in {Stage.NEW, Stage.CLAIMED} else Phase.RUNNING
    template = f"template-{pod.template}"
    return Claimant(pod.uid, pod.uid, template, Identity.SLOT, None, pod.host, phase, writer.member, listed)


def ask(world: World, rules: Rules, index: int, which: Which = "writer") -> Hold | Take | Reserve | Wait:
    """What the pod would get now."""
    pod = world.pods[index]
    store = world.store(rules.key_of(pod))
    heads = {name: each.head.epoch for name, each in store.members.items() if each.head is not None}
    who = claimant(world, rules, pod, writer_of(pod, which))
    done = rules.claim(rules.slots_seen(store), who, wanted=store.wanted, head_epochs=heads)
    assert isinstance(done, Hold | Take | Reserve | Wait)
    return done


def claim(world: World, rules: Rules, index: int, which: Which = "writer", *, reply: bool = True) -> World:
    """Claim for a starting or a running pod. Without a reply the pod does not know what it has."""
    done = ask(world, rules, index, which)
    if isinstance(done, Wait):
        return world
    pod = world.pods[index]
    key = rules.key_of(pod)
    if isinstance(done, Take | Reserve):
        world = _write_slot(world, key, done.record)
    if not reply:
        return world
    record = done.record
    reserved = record.holder != pod.uid
    epoch = record.next.epoch if reserved and record.next is not None else record.epoch
    answered = reserved and record.next is not None and record.next.answered
    old = writer_of(pod, which)
    writer = replace(old, mode=Mode.WRITING, member=record.member, epoch=epoch, reserved=reserved, answered=answered)
    if not isinstance(done, Hold):
        writer = replace(writer, bump_due=rules.epoch_moves is not EpochMoves.AT_FIRST_COMMIT)
    writer = replace(writer, pending=None, known=member_record(world.store(key), record.member))
    world = with_writer(world, index, which, writer)
    if pod.stage is Stage.NEW:
        world = world.with_pod(index, replace(world.pods[index], stage=Stage.CLAIMED))
    return bump(world, rules, index) if writer.bump_due and rules.epoch_moves is EpochMoves.IN_THE_CLAIM else world


def _write_slot(world: World, key: str, record: SlotRecord) -> World:
    store = world.store(key)
    lease_over = store.lease_over - {record.member}
    return world.with_store(key, replace(store, slots={**store.slots, record.member: record}, lease_over=lease_over))


def bump(world: World, rules: Rules, index: int) -> World:
    """Only earlier drafts: move the head's epoch before there is a commit."""
    pod = world.pods[index]
    key = rules.key_of(pod)
    store, writer = world.store(key), replace(pod.writer, bump_due=False)
    record = member_record(store, writer.member)
    if record.head is not None and writer.member is not None:
        epoch = writer.epoch if rules.epoch_moves is EpochMoves.IN_THE_CLAIM else record.head.epoch + 1
        record = replace(record, head=replace(record.head, epoch=epoch, owner=pod.uid))
        world = world.with_store(key, replace(store, members={**store.members, writer.member: record}))
        writer = replace(writer, epoch=epoch, known=record)
    return world.with_pod(index, replace(pod, writer=writer))


def start_empty_after_a_bound(world: World, rules: Rules, index: int) -> World:
    """Only earlier drafts: a claimant that waited long founds a slot of its own."""
    pod = world.pods[index]
    key = rules.key_of(pod)
    slots = world.store(key).slots
    name = next(each for each in map(slot_member, range(len(slots) + 1)) if each not in slots)
    world = _write_slot(world, key, SlotRecord(name, pod.uid, pod.uid, f"template-{pod.template}", 1, 1))
    writer = replace(pod.writer, mode=Mode.WRITING, member=name, epoch=1)
    return world.with_pod(index, replace(pod, stage=Stage.CLAIMED, writer=writer))


def release(world: World, rules: Rules, key: str, member: str, uid: str) -> World:
    record = rules.release(world.store(key).slots, member, uid)
    return world if record is None else _write_slot(world, key, record)


# ------------------------------------------------------------------------------------------------------------ restore


def start(world: World, rules: Rules, index: int) -> World:
    """The end of the init hook, and the app's first instruction."""
    world = claim(world, rules, index)
    pod = world.pods[index]
    key = rules.key_of(pod)
    store, member = world.store(key), pod.writer.member
    slot = store.slots.get(member) if member is not None else None
    if slot is None or not slot.names(pod.uid, pod.writer.epoch):
        return world if rules.epoch_moves is EpochMoves.AT_FIRST_COMMIT else _begin(world, rules, index)
    return _begin(world, rules, index)


def _begin(world: World, rules: Rules, index: int) -> World:
    pod = world.pods[index]
    key, member = rules.key_of(pod), pod.writer.member
    assert member is not None
    store = world.store(key)
    record, slot = member_record(store, member), store.slots[member]
    file = pod.file and LocalFile(pod.file.id.rpartition(".")[0], pod.file.seq, pod.file.epoch)
    answer = rules.restore(slot, record.head, known_seq=None, file=file)
    if isinstance(answer, CannotTell):
        return world
    if isinstance(answer, Give) and record.head is not None:
        head = record.head
        pod = replace(pod, file=RestoreFile(head.manifest.id, head.commit, head.seq, pod.writer.epoch))
    kept = isinstance(answer, Give | KeepFile)
    writer = replace(pod.writer, known=record, pending=None, last=None)
    world = world.with_pod(index, replace(pod, stage=Stage.STARTED, writer=writer, file=pod.file if kept else None))
    world = start_process(world, index)
    commit = world.pods[index].file.commit if kept and world.pods[index].file else None  # type: ignore[union-attr]
    origins = {**world.ghosts.origins, pod.uid: int(commit[1:]) if commit is not None else 0}
    return invariants.of_a_restore(replace(world, ghosts=replace(world.ghosts, origins=origins)), pod, commit)


def start_process(world: World, index: int, *, loads: bool = True) -> World:
    """A new process in the pod; it loads the restore file if there is one, unless it ignores it."""
    pod = world.pods[index]
    file = pod.file if loads else None
    app = App(f"i{world.processes}", file.commit if file else None, file.id if file else None)
    files = dict(pod.writer.files) | ({pod.file.id: pod.file.commit} if pod.file else {})
    last_seq = max(pod.writer.last_seq, pod.file.seq if pod.file else 0)
    writer = replace(pod.writer, files=tuple(files.items()), last_seq=last_seq, nonce=pod.writer.nonce + 1)
    return replace(world, processes=world.processes + 1).with_pod(index, replace(pod, app=app, writer=writer))


def restart_agent(world: World, rules: Rules, index: int) -> World:
    """The agent forgets all but what stands on tmpfs: its claim and the restore file."""
    pod = world.pods[index]
    files = ((pod.file.id, pod.file.commit),) if pod.file else ()
    writer = replace(pod.writer, last=None, files=files, last_seq=pod.file.seq if pod.file else 0, pending=None)
    known = member_record(world.store(rules.key_of(pod)), writer.member)
    return world.with_pod(index, replace(pod, writer=replace(writer, known=known, nonce=writer.nonce + 1)))


# --------------------------------------------------------------------------------------------------------------- poll


def must_claim(world: World, rules: Rules, index: int, which: Which = "writer") -> bool:
    """What the poll looks for: the record is gone, is another's, or is ours and describes another pod."""
    pod = world.pods[index]
    writer = writer_of(pod, which)
    slot = world.store(rules.key_of(pod)).slots.get(writer.member) if writer.member is not None else None
    if slot is None or not slot.names(pod.uid, writer.epoch):
        return True
    return slot.holder == pod.uid and not slot.describes(claimant(world, rules, pod, writer))


def gets_something(world: World, rules: Rules, index: int, which: Which = "writer") -> bool:
    """True if a claim would change anything for this pod."""
    return rules.released is Released.IS_REASSERTED or not isinstance(ask(world, rules, index, which), Wait)


def claim_anew(world: World, rules: Rules, index: int, which: Which = "writer") -> World:
    """The poll saw that the member is another's: claim as a running pod. In an earlier draft: write oneself back."""
    pod = world.pods[index]
    key, writer = rules.key_of(pod), writer_of(pod, which)
    slot = world.store(key).slots.get(writer.member) if writer.member is not None else None
    if rules.released is Released.IS_REASSERTED and slot is not None:
        epoch = slot.issued + 1
        mine = replace(slot, holder=pod.uid, pod=pod.uid, epoch=epoch, issued=epoch, released=0, next=None)
        world = _write_slot(world, key, mine)
        return with_writer(world, index, which, replace(writer, epoch=epoch, mode=Mode.WRITING, pending=None))
    return claim(world, rules, index, which)


def owes_an_answer(world: World, rules: Rules, index: int) -> bool:
    """True if a newcomer waits for this pod's host. In an earlier draft nobody answered for an adopted pod."""
    pod = world.pods[index]
    if pod.writer.member is None or pod.app is None:
        return False
    if pod.host is Host.OPERATOR and rules.newcomer is Newcomer.WAITS_FOR_EVER:
        return False
    slot = world.store(rules.key_of(pod)).slots.get(pod.writer.member)
    return slot is not None and decide_answer(slot, pod.uid) is not None


def flush_and_answer(world: World, rules: Rules, index: int) -> World:
    """A newcomer waits: capture and commit once more, then say so."""
    pod = world.pods[index]
    key, member = rules.key_of(pod), pod.writer.member
    world = flush(world, rules, index)
    assert member is not None
    record = decide_answer(world.store(key).slots[member], pod.uid)
    return world if record is None else _write_slot(world, key, record)
