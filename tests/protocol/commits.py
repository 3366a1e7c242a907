"""Captures and commits of one writer, each a move of the world.

A store call is one atomic move, because the guarded script makes it one; between two moves anything may happen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from resonance.model.claim import Host
from resonance.model.commit import Append, CommitRequest, Proof, Refusal
from resonance.model.manifest import Head, Manifest, MemberRecord
from resonance.model.retention import append
from tests.protocol import invariants
from tests.protocol.rules import AfterConflict, Lineage, Records, Rules
from tests.protocol.world import NOTHING, App, Birth, Mode, Pod, RestoreFile, Store, World, Writer

Which = Literal["writer", "second"]


def writer_of(pod: Pod, which: Which) -> Writer:
    found = pod.writer if which == "writer" else pod.second
    assert found is not None
    return found


def with_writer(world: World, index: int, which: Which, writer: Writer) -> World:
    pod = world.pods[index]
    changed = replace(pod, writer=writer) if which == "writer" else replace(pod, second=writer)
    return world.with_pod(index, changed)


def member_record(store: Store, member: str | None) -> MemberRecord:
    return store.members.get(member, NOTHING) if member is not None else NOTHING


def capture(world: World, rules: Rules, index: int, which: Which = "writer", *, reaches_file: bool = True) -> World:
    """Read the state out of the process, fix everything about this moment, write the restore file."""
    pod = world.pods[index]
    writer, app = writer_of(pod, which), pod.app
    assert app is not None
    commit = f"c{world.captures + 1}"
    nonce = f"n-{pod.uid}-{writer.nonce}"
    request = _request(rules, pod, writer, commit, nonce)
    first = writer.known.head is None
    world = _remember_birth(replace(world, captures=world.captures + 1), app, commit, first=first)
    pod = replace(pod, app=replace(app, state=commit))
    suspect = not rules.file_takes(writer.known, request.line, request.incarnation)
    writer = replace(writer, last_seq=request.seq, pending=request)
    if rules.lineage is Lineage.AT_THE_CAPTURE and suspect:
        return _set(world, index, which, pod, replace(writer, pending=None, outcome="Quarantined"))
    if not suspect and reaches_file and which == "writer" and pod.host is Host.AGENT:
        file = RestoreFile(f"{request.line}.{request.seq}", commit, request.seq, writer.epoch)
        pod = replace(pod, file=file)
        writer = replace(writer, files=(*writer.files, (file.id, commit))[-4:])
    return _set(world, index, which, pod, writer)


def _request(rules: Rules, pod: Pod, writer: Writer, commit: str, nonce: str) -> CommitRequest:
    assert pod.app is not None
    proof = Proof(pod.app.incarnation, pod.app.restored_from) if pod.proves else None
    head = writer.known.head
    base = head.seq if head is not None else 0
    line = rules.line_of(proof, head, nonce)
    parent = rules.parent_of(proof, head, writer.last, dict(writer.files), nonce)
    incarnation = proof.incarnation if proof is not None else nonce
    seq = max(base, writer.last_seq) + 1
    return CommitRequest(pod.uid, writer.epoch, commit, seq, base, line, incarnation, parent)


def _set(world: World, index: int, which: Which, pod: Pod, writer: Writer) -> World:
    return with_writer(world.with_pod(index, pod), index, which, writer)


def _remember_birth(world: World, app: App, commit: str, *, first: bool) -> World:
    births = world.ghosts.births
    line = births[app.state].line if app.state is not None else app.incarnation
    birth = Birth(app.state, app.incarnation, line, first)
    return replace(world, ghosts=replace(world.ghosts, births={**births, commit: birth}))


def commit(world: World, rules: Rules, index: int, which: Which = "writer", *, reply: bool = True) -> World:
    """Send the pending capture. Without a reply the writer sends the same again, or a newer one."""
    pod = world.pods[index]
    key, writer = rules.key_of(pod), writer_of(pod, which)
    request, member = writer.pending, writer.member
    assert request is not None
    assert member is not None
    if rules.records is Records.AFTER_THE_STATE:
        now = replace(writer, known=member_record(world.store(key), member))
        request = replace(_request(rules, pod, now, request.commit, f"n-{pod.uid}-{writer.nonce}"), seq=1 << 20)
    world, outcome = append_commit(world, rules, (key, member), request)
    if not reply:
        return with_writer(world, index, which, replace(writer, outcome="Lost"))
    return _after(world, rules, index, which, outcome)


def append_commit(world: World, rules: Rules, place: tuple[str, str], request: CommitRequest) -> tuple[World, str]:
    """The guarded script: decide on the records as they stand, and write what was decided."""
    key, member = place
    store = world.store(key)
    seen, slot = member_record(store, member), store.slots.get(member)
    done = rules.commit(seen, slot, request)
    if not isinstance(done, Append):
        return world, done.why.value
    world = invariants.of_an_append(world, place, seen, request, done)
    seq = max(request.seq if request.seq < 1 << 20 else 0, seen.head.seq + 1 if seen.head else 1)
    head = Head(done.epoch, request.writer, _manifest(request, seq), rules.acceptance_after(seen.head))
    record = append(seen, head, tip=done.tip).record
    store = replace(store, members={**store.members, member: record})
    if done.slot is not None:
        store = replace(store, slots={**store.slots, member: done.slot})
    return world.with_store(key, store), "Saved"


def _manifest(request: CommitRequest, seq: int) -> Manifest:
    return Manifest(
        seq=seq,
        commit=request.commit,
        line=request.line,
        parent=request.parent,
        incarnation=request.incarnation,
        digest="",
        proof="",
        counts={},
        stored_bytes=0,
        chain=(seq,),
        taken_at_ms=0,
        writer=request.writer,
        pod=request.writer,
        epoch=request.epoch,
        state_bytes=0,
    )


def _after(world: World, rules: Rules, index: int, which: Which, outcome: str) -> World:
    """What the writer makes of the answer."""
    pod = world.pods[index]
    key, writer = rules.key_of(pod), writer_of(pod, which)
    request, member = writer.pending, writer.member
    assert request is not None
    assert member is not None
    store = world.store(key)
    writer = replace(writer, outcome=outcome, known=member_record(store, member))
    if outcome in {"Saved", Refusal.DUPLICATE}:
        ghosts = replace(world.ghosts, acknowledged=world.ghosts.acknowledged | {request.commit})
        last = (request.incarnation, request.commit)
        done = replace(writer, pending=None, last=last, mode=Mode.WRITING, reserved=False, outcome="Saved")
        return with_writer(replace(world, ghosts=ghosts), index, which, done)
    if outcome == Refusal.CONFLICT and rules.after_conflict is AfterConflict.FORCE_THE_OLD and writer.known.head:
        head = writer.known.head
        forced = replace(request, base_seq=head.seq, seq=max(request.seq, head.seq + 1), parent=head.commit)
        return with_writer(world, index, which, replace(writer, pending=forced))
    writer = replace(writer, pending=None)
    if outcome == Refusal.QUARANTINED:
        world = world.with_store(key, replace(store, suspects={**store.suspects, member: request.incarnation}))
    if outcome in {Refusal.FENCED, Refusal.NOT_HELD}:
        world = world.with_store(key, replace(store, tips={**store.tips, pod.uid: request.commit}))
        writer = replace(writer, mode=Mode.SUPERSEDED)
    return with_writer(world, index, which, writer)


def flush(world: World, rules: Rules, index: int) -> World:
    """One capture and its commit, without anything between."""
    world = capture(world, rules, index)
    return commit(world, rules, index) if world.pods[index].writer.pending is not None else world
