"""What may go wrong, or what people do, as (sentence, move), while the world's budget for it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from functools import partial

from resonance.model.claim import Host
from tests.protocol import commits, writer
from tests.protocol.rules import Rules
from tests.protocol.world import Kube, Mode, Pod, Stage, World

Move = Callable[[World], World]
Moves = Iterator[tuple[str, Move]]


class Fault(StrEnum):
    """What may go wrong, or what a person may do, each as often as the world's budget says."""

    KILL = "a pod is killed without a warning"
    LOST_COMMIT = "a commit's reply is lost"
    LOST_CLAIM = "a claim's reply is lost"
    NODE_LOST = "a node is cut off from the API server"
    CUT = "a pod is cut off from Redis"
    APP_CRASH = "an app crashes in place and loads the file"
    APP_IGNORES = "an app crashes in place and ignores the file"
    DIES_BEFORE_FILE = "an app dies between its export and the file"
    AGENT_RESTART = "an agent restarts"
    WRONG_RELEASE = "the operator releases a slot wrongly"
    FAIL_OVER = "Redis fails over and loses the newest writes"
    ROLL_OUT = "a person rolls out a new template"
    ROLL_BACK = "a person undoes the roll-out"
    SCALE_UP = "a person scales up"
    SCALE_DOWN = "a person scales down"
    ACCEPT = "a person accepts the quarantined state"
    REPEATED_RELEASE = "the reply of a release is lost, and it is sent again later"
    LEASE_OVER = "a lease runs out"
    BOUND = "a claimant has waited long"


def end(world: World, index: int) -> World:
    pod = world.pods[index]
    memory = replace(pod.writer, pending=None)
    return world.with_pod(index, replace(pod, stage=Stage.ENDED, kube=Kube.GONE, app=None, file=None, writer=memory))


def of_a_pod(world: World, rules: Rules, index: int, pod: Pod) -> Moves:
    def fault(kind: Fault, sentence: str, move: Move) -> Moves:
        if world.may(kind):
            yield sentence, lambda now: move(now.spend(kind))

    yield from fault(Fault.KILL, f"{pod.uid} is killed", lambda now: end(now, index))
    if pod.stage is not Stage.STARTED or pod.app is None:
        return
    crashed = f"the app of {pod.uid} crashes in place and"
    yield from fault(Fault.APP_CRASH, f"{crashed} loads the file", lambda now: writer.start_process(now, index))
    yield from fault(
        Fault.APP_IGNORES, f"{crashed} ignores the file", lambda now: writer.start_process(now, index, loads=False)
    )
    if pod.host is Host.AGENT:
        forgets = partial(writer.restart_agent, rules=rules, index=index)
        yield from fault(Fault.AGENT_RESTART, f"the agent of {pod.uid} restarts", forgets)
        if pod.writer.member is not None and pod.writer.mode is Mode.WRITING:
            sentence = f"the app of {pod.uid} dies after its export, before the file; the capture goes on"
            yield from fault(Fault.DIES_BEFORE_FILE, sentence, lambda now: _die_before_file(now, rules, index))
    if pod.kube is Kube.LIVE:
        lost = replace(pod, kube=Kube.LOST)
        yield from fault(Fault.NODE_LOST, f"the node of {pod.uid} is cut off", lambda now: now.with_pod(index, lost))
    if pod.reaches_store:
        cut = replace(pod, reaches_store=False)
        yield from fault(Fault.CUT, f"{pod.uid} is cut off from Redis", lambda now: now.with_pod(index, cut))
    else:
        yield f"{pod.uid} reaches Redis again", lambda now: now.with_pod(index, replace(pod, reaches_store=True))


def _die_before_file(world: World, rules: Rules, index: int) -> World:
    """The capture is read; the process that starts in its place loads the older file; the file comes too late."""
    before = world.pods[index].file
    world = commits.capture(world, rules, index)
    newest = world.pods[index].file
    world = writer.start_process(world.with_pod(index, replace(world.pods[index], file=before)), index)
    return world.with_pod(index, replace(world.pods[index], file=newest))


def of_the_rest(world: World, rules: Rules) -> Moves:
    """What people, Redis and a mistaken operator do."""
    yield from _people(world)
    if world.may(Fault.FAIL_OVER):
        if world.replica is None:
            yield "the Redis replica stops following", lambda now: replace(now, replica=now.stores)
        else:
            yield "Redis fails over to its replica", _fail_over
    for key, store in world.stores.items():
        for name, slot in store.slots.items():
            if slot.holder is not None and world.may(Fault.WRONG_RELEASE):
                wrongly = partial(_wrong_release, rules=rules, release=(key, name, slot.holder))
                yield f"the operator wrongly releases {name}", wrongly
            if slot.holder is not None and world.may(Fault.LEASE_OVER) and name not in store.lease_over:
                yield f"the lease of {name} runs out", partial(_end_lease, key=key, member=name)
        for name, incarnation in store.suspects.items():
            if world.may(Fault.ACCEPT):
                yield (
                    f"a person accepts {incarnation} in {name}",
                    partial(_accept, key=key, member=name, who=incarnation),
                )


def _people(world: World) -> Moves:
    if world.may(Fault.SCALE_UP):
        more = replace(world.spend(Fault.SCALE_UP), replicas=world.replicas + 1)
        yield Fault.SCALE_UP.value, lambda _: more
    if world.may(Fault.SCALE_DOWN) and world.replicas > 1:
        less = replace(world.spend(Fault.SCALE_DOWN), replicas=world.replicas - 1)
        yield Fault.SCALE_DOWN.value, lambda _: less
    if world.may(Fault.ROLL_OUT):
        out = replace(world.spend(Fault.ROLL_OUT), template=world.template + 1)
        yield Fault.ROLL_OUT.value, lambda _: out
    if world.may(Fault.ROLL_BACK) and world.template > 0:
        back = replace(world.spend(Fault.ROLL_BACK), template=world.template - 1, paused=False)
        yield Fault.ROLL_BACK.value, lambda _: back


def _wrong_release(world: World, *, rules: Rules, release: tuple[str, str, str]) -> World:
    return writer.release(world.spend(Fault.WRONG_RELEASE), rules, *release)


def _end_lease(world: World, *, key: str, member: str) -> World:
    store = world.store(key)
    return world.spend(Fault.LEASE_OVER).with_store(key, replace(store, lease_over=store.lease_over | {member}))


def _accept(world: World, *, key: str, member: str, who: str) -> World:
    world = world.spend(Fault.ACCEPT)
    store = world.store(key)
    record = commits.member_record(store, member)
    if record.head is None:
        return world
    members = {**store.members, member: replace(record, head=replace(record.head, accepted=who))}
    suspects = {name: each for name, each in store.suspects.items() if name != member}
    ghosts = replace(world.ghosts, accepted=world.ghosts.accepted | {who})
    return replace(world, ghosts=ghosts).with_store(key, replace(store, members=members, suspects=suspects))


def _fail_over(world: World) -> World:
    """The replica's records are the truth from now on; what only the old primary had is lost, and says so."""
    assert world.replica is not None
    world = replace(world.spend(Fault.FAIL_OVER), stores=world.replica, replica=None)
    manifests = [
        (key, name, each)
        for key, store in world.stores.items()
        for name, rec in store.members.items()
        for each in rec.all()
    ]
    there = {each.commit for _, _, each in manifests}
    writers = frozenset((key, name, each.epoch, each.writer) for key, name, each in manifests)
    lost = world.ghosts.lost_by_fail_over | (world.ghosts.acknowledged - there)
    return replace(world, ghosts=replace(world.ghosts, lost_by_fail_over=lost, writers=writers))
