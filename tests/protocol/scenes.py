"""First worlds: how many pods run, what is being rolled out, which faults may happen."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from resonance.model.claim import Host
from tests.protocol import writer
from tests.protocol.commits import flush
from tests.protocol.explore import Scene, play
from tests.protocol.faults import Fault
from tests.protocol.moves import write_policy
from tests.protocol.rules import PRODUCT, Rules
from tests.protocol.world import Kube, Pod, Stage, World


def running(
    world: World, rules: Rules, *, host: Host = Host.AGENT, workload: str = "web", proves: bool = True
) -> World:
    """One more pod that runs, has a member and has committed once."""
    index = len(world.pods)
    pod = Pod(f"p{index}", 0, workload, host=host, proves=proves, initial=True)
    if host is Host.OPERATOR:
        pod = replace(pod, stage=Stage.STARTED)
    world = write_policy(replace(world, pods=(*world.pods, pod)), rules, rules.key_of(pod))
    if host is Host.OPERATOR:
        world = writer.claim(writer.start_process(world, index), rules, index)
    else:
        world = writer.start(writer.claim(world, rules, index), rules, index)
    return flush(world, rules, index)


def running_pods(count: int, rules: Rules = PRODUCT, **changes: object) -> World:
    """``count`` pods, each with a member and one snapshot; then the changes."""
    world = World(replicas=count)
    for _ in range(count):
        world = running(world, rules)
    return replace(world, **changes)  # type: ignore[arg-type]


def scene(world: World, budget: Mapping[str, int] | None = None, **judged: object) -> Scene:
    return Scene(replace(world, budget=dict(budget or {})), **judged)  # type: ignore[arg-type]


def first_deployment(replicas: int = 1) -> World:
    """Nothing ever ran here."""
    pods = tuple(Pod(f"p{index}", 0) for index in range(replicas))
    return write_policy(World(pods=pods, replicas=replicas), PRODUCT, PRODUCT.key_of(pods[0]))


def scaled_down() -> World:
    """Two ran; slot-0 was parked long ago and slot-1 has the newest state; a roll-out with surge begins."""
    world = running_pods(2)
    key = PRODUCT.key_of(world.pods[0])
    world = writer.release(world, PRODUCT, key, "slot-0", "p0")
    gone = replace(world.pods[0], stage=Stage.ENDED, kube=Kube.GONE, app=None, file=None)
    world = replace(world.with_pod(0, gone), replicas=1, template=1, surge=1)
    return flush(write_policy(world, PRODUCT, key), PRODUCT, 1)


def played(world: World, *schedule: str, rules: Rules = PRODUCT) -> World:
    """The world after a schedule that is told in sentences."""
    return play(world, rules, *schedule)


# An undone roll-out, a wrong release and the like leave a state parked by themselves; I8 says nothing about them.
PARKS = frozenset({Fault.FAIL_OVER, Fault.SCALE_DOWN, Fault.APP_IGNORES, Fault.WRONG_RELEASE, Fault.ROLL_BACK})
OF_EARLIER_DRAFTS = frozenset({Fault.LEASE_OVER, Fault.BOUND})


class Rollout(StrEnum):
    """What is being rolled out when a random schedule begins."""

    NONE = "nothing"
    PLAIN = "a new template"
    ANY = "a new template too, so that it is the most frequent"
    PAUSED = "a paused canary"
    BAD_IMAGE = "an image that never starts"


# docs/protocol.md, "Known limits".
LIMITS = {
    Rollout.PAUSED: frozenset({Fault.KILL, Fault.NODE_LOST}),
    Rollout.BAD_IMAGE: frozenset({Fault.WRONG_RELEASE}),
}


class Cast(StrEnum):
    """Who runs when a random schedule begins."""

    INJECTED = "injected pods"
    ADOPTED = "adopted pods"
    MIXED = "some adopted"
    ADOPTED_TWICE = "two operators adopt the same pod"
    UNPROVEN = "apps that send no headers"
    NOBODY = "nobody, this is the first deployment"


def random_scene(choose: random.Random) -> Scene:
    """One to three pods of some cast, perhaps a roll-out, and up to four kinds of faults."""
    replicas, cast = choose.choice([1, 1, 2, 3]), choose.choice(list(Cast))
    kinds = set(choose.sample([each for each in Fault if each not in OF_EARLIER_DRAFTS], choose.choice([1, 2, 3, 4])))
    world = replace(_cast(cast, replicas, choose), surge=choose.choice([0, 1]))
    rollout = choose.choice([*Rollout] if cast is not Cast.NOBODY else [Rollout.NONE])
    if rollout is not Rollout.NONE:
        world = replace(world, template=1)
    if rollout is Rollout.PAUSED:
        world = replace(world, paused=True, surge=1)
    kinds -= LIMITS.get(rollout, frozenset())
    budget: dict[str, int] = {each: choose.choice([1, 1, 2]) for each in sorted(kinds)}
    if rollout is Rollout.BAD_IMAGE:
        budget["bad image"] = 1
    lost_stay = Fault.NODE_LOST in kinds and choose.random() < 0.3
    return scene(world, budget, lost_stay=lost_stay, checks_unused=not world.paused and not PARKS & kinds)


def _cast(cast: Cast, replicas: int, choose: random.Random) -> World:
    if cast is Cast.NOBODY:
        return first_deployment(replicas)
    world = World(replicas=replicas)
    for _ in range(replicas):
        adopted = cast in {Cast.ADOPTED, Cast.ADOPTED_TWICE} or (cast is Cast.MIXED and choose.random() < 0.5)
        world = running(world, PRODUCT, host=Host.OPERATOR if adopted else Host.AGENT, proves=cast is not Cast.UNPROVEN)
    if cast is Cast.ADOPTED_TWICE:
        world = world.with_pod(0, replace(world.pods[0], second=world.pods[0].writer))
    return world
