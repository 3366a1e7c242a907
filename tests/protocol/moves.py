"""Everything that may happen next, as (sentence, move): hosts, the operator, Kubernetes, and faults (faults.py)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from resonance.model.claim import Host, Phase, Wait
from tests.protocol import commits, faults, invariants, writer
from tests.protocol.faults import Fault, Move, Moves, end
from tests.protocol.rules import EmptyStart, Leaving, Listing, Newcomer, Rules
from tests.protocol.world import Kube, Pod, Stage, World


def moves(world: World, rules: Rules) -> Moves:
    """All moves from here. Sentences are unique in one world."""
    yield from _kubernetes(world)
    yield from _operator(world, rules)
    for index, pod in enumerate(world.pods):
        if pod.stage is not Stage.ENDED:
            yield from _host(world, rules, index, pod)
            yield from faults.of_a_pod(world, rules, index, pod)
    yield from faults.of_the_rest(world, rules)


def step(world: World, move: Move) -> World:
    """The world after a move, with what must always hold checked."""
    return invariants.of_a_world(move(world))


# --------------------------------------------------------------------------------------------------------- Kubernetes


def _kubernetes(world: World) -> Moves:
    for name in dict.fromkeys(each.workload for each in world.pods) if world.pods else ["web"]:
        live = [each for each in world.pods if each.kube is Kube.LIVE and each.workload == name]
        current = [each for each in live if each.template == world.template]
        old = [each for each in live if each.template != world.template]
        ready = [each for each in live if each.stage is Stage.STARTED and each.app is not None]
        if world.paused:
            yield from _paused(world, name, old, current)
            continue
        if len(current) < world.replicas and len(live) < world.replicas + world.surge:
            yield f"Kubernetes creates p{len(world.pods)} of {name}", partial(_create, workload=name)
        for pod in old:
            unready = pod not in ready
            if unready or len(ready) > world.replicas - (0 if world.surge else 1):
                yield f"Kubernetes deletes {pod.uid}", partial(_delete, uid=pod.uid)
        if not old and len(current) > world.replicas:
            for pod in current:
                yield f"Kubernetes deletes {pod.uid}", partial(_delete, uid=pod.uid)


def _paused(world: World, name: str, old: list[Pod], current: list[Pod]) -> Moves:
    """A paused roll-out keeps both ReplicaSets at their size."""
    if len(current) < world.surge:
        yield f"Kubernetes creates canary p{len(world.pods)} of {name}", partial(_create, workload=name)
    if len(old) < world.replicas:
        before = world.template - 1
        yield f"Kubernetes creates p{len(world.pods)} of {name}, old", partial(_create, workload=name, template=before)


def _create(world: World, *, workload: str, template: int | None = None) -> World:
    made = world.template if template is None else template
    bad = bool(world.budget.get("bad image")) and made > 0
    return replace(world, pods=(*world.pods, Pod(f"p{len(world.pods)}", made, workload, bad_image=bad)))


def _delete(world: World, *, uid: str) -> World:
    index = world.index(uid)
    assert index is not None
    pod = world.pods[index]
    if pod.stage is Stage.STARTED:
        return world.with_pod(index, replace(pod, kube=Kube.TERMINATING))
    return end(world, index)


# ----------------------------------------------------------------------------------------------------------- operator


def policy_of(world: World, rules: Rules, key: str) -> tuple[int, frozenset[str]]:
    """What the operator would write into the policy record: wanted replicas and listed pods."""
    listed = frozenset(each.uid for each in world.pods if rules.key_of(each) == key and rules.is_listed(each))
    workloads = len({each.workload for each in world.pods if rules.key_of(each) == key}) or 1
    return world.replicas * workloads, listed


def write_policy(world: World, rules: Rules, key: str) -> World:
    wanted, listed = policy_of(world, rules, key)
    return world.with_store(key, replace(world.store(key), wanted=wanted, listed=listed))


def _operator(world: World, rules: Rules) -> Moves:
    for key in dict.fromkeys(rules.key_of(each) for each in world.pods):
        store = world.store(key)
        if (store.wanted, store.listed) != policy_of(world, rules, key):
            yield "the operator writes the policy record", partial(write_policy, rules=rules, key=key)
        for name, slot in store.slots.items():
            for uid in {slot.holder, slot.next.uid if slot.next else None} - {None}:
                index = world.index(str(uid))
                if index is not None and rules.is_gone(world.pods[index]):
                    late = (key, name, str(uid))
                    if late not in world.late_releases:
                        yield f"the operator sees that {uid} is gone and will release {name}", partial(_see, late=late)
    for late in world.late_releases:
        if rules.listing is Listing.BEFORE_THE_RELEASE and late[2] in world.store(late[0]).listed:
            continue
        sentence = f"the operator writes the release of {late[1]} by {late[2]}"
        yield sentence, partial(do_release, rules=rules, late=late)
        if world.may(Fault.REPEATED_RELEASE):
            yield f"{sentence}, reply lost", partial(_repeatable_release, rules=rules, late=late)


def _see(world: World, *, late: tuple[str, str, str]) -> World:
    return replace(world, late_releases=(*world.late_releases, late))


def _repeatable_release(world: World, *, rules: Rules, late: tuple[str, str, str]) -> World:
    return writer.release(world.spend(Fault.REPEATED_RELEASE), rules, *late)


def do_release(world: World, *, rules: Rules, late: tuple[str, str, str]) -> World:
    world = replace(world, late_releases=tuple(each for each in world.late_releases if each != late))
    return writer.release(world, rules, *late)


# --------------------------------------------------------------------------------------------------------------- hosts


def _host(world: World, rules: Rules, index: int, pod: Pod) -> Moves:
    if not pod.reaches_store:
        if pod.stage is Stage.STARTED and pod.app is not None and pod.writer.pending is None and pod.writer.member:
            yield f"{pod.uid} captures", partial(commits.capture, rules=rules, index=index)
        return
    if pod.stage in {Stage.NEW, Stage.CLAIMED}:
        yield from _starting(world, rules, index, pod)
    if pod.stage is Stage.STARTED and pod.app is not None:
        yield from _running(world, rules, index, pod, "writer")
        if pod.second is not None:
            yield from _running(world, rules, index, pod, "second")
    if pod.kube is Kube.TERMINATING:
        yield f"{pod.uid} flushes, releases and ends", partial(flush_and_end, rules=rules, index=index)


def _starting(world: World, rules: Rules, index: int, pod: Pod) -> Moves:
    if pod.stage is Stage.NEW:
        done = writer.ask(world, rules, index)
        if not isinstance(done, Wait):
            claims = f"{pod.uid} claims {done.record.member} ({type(done).__name__})"
            yield claims, partial(writer.claim, rules=rules, index=index)
            if world.may(Fault.LOST_CLAIM):
                yield f"{claims}, reply lost", partial(_lost_claim, rules=rules, index=index)
        elif rules.empty_start is EmptyStart.AFTER_A_BOUND and world.may(Fault.BOUND):
            yield f"{pod.uid} waited its bound", partial(writer.start_empty_after_a_bound, rules=rules, index=index)
        return
    if pod.writer.bump_due:
        yield f"{pod.uid} moves the epoch", partial(writer.bump, rules=rules, index=index)
    elif not pod.bad_image and (rules.newcomer is Newcomer.WAITS_A_BOUND or _may_go_on(world, rules, index)):
        yield f"{pod.uid} restores and starts", partial(writer.start, rules=rules, index=index)


def _may_go_on(world: World, rules: Rules, index: int) -> bool:
    done = writer.ask(world, rules, index)
    after = None if isinstance(done, Wait) else done.record.next
    return after is None or after.uid != world.pods[index].uid or after.answered


def _lost_claim(world: World, *, rules: Rules, index: int) -> World:
    return writer.claim(world.spend(Fault.LOST_CLAIM), rules, index, reply=False)


def _running(world: World, rules: Rules, index: int, pod: Pod, which: commits.Which) -> Moves:
    memory = commits.writer_of(pod, which)
    name = f"{pod.uid}" if pod.host is Host.AGENT else f"the operator ({which}) for {pod.uid}"
    runs = writer.claimant(world, rules, pod, memory).phase is Phase.RUNNING and pod.kube is not Kube.GONE
    if runs and writer.must_claim(world, rules, index, which) and writer.gets_something(world, rules, index, which):
        yield f"{name} claims anew", partial(writer.claim_anew, rules=rules, index=index, which=which)
    if memory.member is None:
        return
    if memory.pending is None or (memory.outcome == "Lost" and which == "writer"):
        yield f"{name} captures", partial(commits.capture, rules=rules, index=index, which=which)
    if memory.pending is not None:
        sends = f"{name} commits its capture"
        yield sends, partial(commits.commit, rules=rules, index=index, which=which)
        if world.may(Fault.LOST_COMMIT):
            yield f"{sends}, reply lost", partial(_lost_commit, rules=rules, index=index, which=which)
    if which == "writer" and writer.owes_an_answer(world, rules, index):
        yield f"{name} flushes and answers the newcomer", partial(writer.flush_and_answer, rules=rules, index=index)


def _lost_commit(world: World, *, rules: Rules, index: int, which: commits.Which) -> World:
    return commits.commit(world.spend(Fault.LOST_COMMIT), rules, index, which, reply=False)


def flush_and_end(world: World, *, rules: Rules, index: int) -> World:
    """The pod's last capture, then its release: of the member, or of the reservation that it never used."""
    pod = world.pods[index]
    key, member = rules.key_of(pod), pod.writer.member
    if pod.host is not Host.AGENT or not pod.reaches_store or member is None:
        return end(world, index)
    slot = world.store(key).slots.get(member)
    is_newcomer = slot is not None and slot.next is not None and slot.next.uid == pod.uid
    if pod.app is not None and not (is_newcomer and rules.leaving is Leaving.SAVES_ASIDE):
        world = commits.flush(world, rules, index)
    return end(writer.release(world, rules, key, member, pod.uid), index)
