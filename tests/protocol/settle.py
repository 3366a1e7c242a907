"""The faults are over: everybody does, in turn, what is theirs to do, until nothing but saving is left.

A deterministic, fair run. If a live pod still cannot commit after it, no later luck helps: nothing else moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.protocol import commits, invariants, moves, writer
from tests.protocol.faults import Fault
from tests.protocol.moves import step
from tests.protocol.rules import Rules
from tests.protocol.world import Kube, Stage, World

ROUNDS = 16
QUIET = ("a person", "the operator wrongly", "Redis", "the Redis", "the lease", "an app", "an agent")


def settle(world: World, rules: Rules, *, lost_stay: bool = False) -> tuple[World, frozenset[str], list[str]]:
    """The world after the faults, who committed in the last round, and what happened on the way."""
    done: list[str] = []
    waited = world.budget.get(Fault.BOUND, 0)
    budget = {name: (waited if name == Fault.BOUND else 0) for name in world.budget if name != "bad image"}
    if "bad image" in world.budget:
        budget["bad image"] = 1
    world = replace(world, budget=budget)
    for index, pod in enumerate(world.pods):
        healed = replace(pod, reaches_store=True)
        if pod.kube is Kube.LOST and not lost_stay:
            healed = replace(healed, kube=Kube.GONE, stage=Stage.ENDED, app=None)
        world = world.with_pod(index, healed)
    saved: frozenset[str] = frozenset()
    for _ in range(ROUNDS):
        before = world
        world = _operator_and_kubernetes(world, rules, done)
        world, saved = _hosts(world, rules, done)
        if _rests(before, world):
            break
    return world, saved, done


def _rests(before: World, after: World) -> bool:
    """Nothing but captures happened in this round."""
    pods = [(p.stage, p.kube, p.writer.member, p.writer.epoch, p.writer.mode, p.writer.outcome) for p in before.pods]
    now = [(p.stage, p.kube, p.writer.member, p.writer.epoch, p.writer.mode, p.writer.outcome) for p in after.pods]
    slots = [(each.slots, each.wanted, each.listed) for each in before.stores.values()]
    return pods == now and slots == [(each.slots, each.wanted, each.listed) for each in after.stores.values()]


def _operator_and_kubernetes(world: World, rules: Rules, done: list[str]) -> World:
    for wanted in ("the operator", "the operator", "the operator", "Kubernetes"):
        for sentence, move in list(moves.moves(world, rules)):
            owner = "operator (" not in sentence and not sentence.startswith(QUIET)
            if sentence.startswith(wanted) and owner:
                done.append(sentence)
                world = step(world, move)
                if wanted == "Kubernetes":
                    break
    return world


def _hosts(world: World, rules: Rules, done: list[str]) -> tuple[World, frozenset[str]]:
    saved = set()
    for index in range(len(world.pods)):
        world = _begin(world, rules, index, done)
        pod = world.pods[index]
        if pod.stage is not Stage.STARTED or pod.app is None or pod.kube is Kube.GONE:
            continue
        for which in _writers(world, index):
            world = _one_cycle(world, rules, index, which)
        pod = world.pods[index]
        if "Saved" in {commits.writer_of(pod, which).outcome for which in _writers(world, index)}:
            saved.add(pod.uid)
        if pod.kube is Kube.TERMINATING:
            done.append(f"{pod.uid} flushes, releases and ends")
            world = moves.flush_and_end(world, rules=rules, index=index)
            saved.discard(pod.uid)
    return world, frozenset(saved)


def _writers(world: World, index: int) -> Sequence[commits.Which]:
    return ("writer",) if world.pods[index].second is None else ("writer", "second")


def _begin(world: World, rules: Rules, index: int, done: list[str]) -> World:
    """Claim, then start, as far as the pod comes."""
    for _ in range(4):
        pod = world.pods[index]
        if pod.stage not in {Stage.NEW, Stage.CLAIMED}:
            return world
        own = (f"{pod.uid} claims", f"{pod.uid} waited", f"{pod.uid} moves", f"{pod.uid} restores")
        open_ = [each for each in moves.moves(world, rules) if each[0].startswith(own)]
        if not open_:
            return world
        done.append(open_[0][0])
        world = step(world, open_[0][1])
    return world


def _one_cycle(world: World, rules: Rules, index: int, which: commits.Which) -> World:
    """Poll, then capture and commit, again after a conflict and after a capture that was taken earlier."""
    for _ in range(4):
        if writer.must_claim(world, rules, index, which) and writer.gets_something(world, rules, index, which):
            world = writer.claim_anew(world, rules, index, which)
        if commits.writer_of(world.pods[index], which).member is None:
            return world
        if which == "writer" and writer.owes_an_answer(world, rules, index):
            world = writer.flush_and_answer(world, rules, index)
        is_fresh = commits.writer_of(world.pods[index], which).pending is None
        if is_fresh:
            world = commits.capture(world, rules, index, which)
        if commits.writer_of(world.pods[index], which).pending is not None:
            world = commits.commit(world, rules, index, which)
        world = invariants.of_a_world(world)
        if is_fresh and commits.writer_of(world.pods[index], which).outcome in {"Saved", "Quarantined"}:
            return world
    return world


def verdict(
    world: World, rules: Rules, *, lost_stay: bool = False, checks_unused: bool = True
) -> tuple[str | None, list[str]]:
    """The invariant that does not hold now or once the faults are over, and how it came to that."""
    if world.broken is not None:
        return world.broken, []
    after, saved, done = settle(world, rules, lost_stay=lost_stay)
    if after.broken is not None:
        return after.broken, done
    return invariants.of_a_settled_world(after, saved, checks_unused=checks_unused), done
