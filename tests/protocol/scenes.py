"""First worlds: how many pods run, what is being rolled out, which faults may happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from resonance.model.claim import Host

from tests.protocol import writer
from tests.protocol.explore import Scene, play
from tests.protocol.moves import write_policy
from tests.protocol.rules import PRODUCT, Rules
from tests.protocol.world import Kube, Pod, Stage, World


def running(world: World, rules: Rules, *, host: Host = Host.AGENT, workload: str = "web", template: int = 0) -> World:
    """One more pod that runs, has a member and has committed once."""
    index = len(world.pods)
    pod = Pod(f"p{index}", template, workload, host=host, initial=True)
    if host is Host.OPERATOR:
        pod = replace(pod, stage=Stage.STARTED)
    world = write_policy(replace(world, pods=(*world.pods, pod)), rules, rules.key_of(pod))
    if host is Host.OPERATOR:
        world = writer.claim(writer.start_process(world, index), rules, index)
    else:
        world = writer.start(writer.claim(world, rules, index), rules, index)
    return writer.flush(world, rules, index)


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
    return writer.flush(write_policy(world, PRODUCT, key), PRODUCT, 1)


def played(world: World, *schedule: str, rules: Rules = PRODUCT) -> World:
    """The world after a schedule that is told in sentences."""
    return play(world, rules, *schedule)
