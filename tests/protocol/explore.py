"""Two ways through the world: every schedule up to a bound, and long random ones with a seed."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from tests.protocol.moves import moves, step
from tests.protocol.rules import Rules
from tests.protocol.settle import verdict
from tests.protocol.world import World


@dataclass(frozen=True, slots=True)
class Scene:
    """A first world, and how it is judged. ``captures`` bounds the exploration."""

    first: World
    captures: int = 6
    lost_stay: bool = False
    checks_unused: bool = True
    settles: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule that breaks an invariant. ``str`` prints it to be read."""

    invariant: str
    schedule: tuple[str, ...]
    afterwards: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{at}. {each}" for at, each in enumerate(self.schedule, 1)]
        return "\n".join([self.invariant, *lines, "then, without faults: " + "; ".join(self.afterwards[:12])])


def search(scene: Scene, rules: Rules, *, worlds: int) -> tuple[Found | None, int]:
    """The shortest schedule that breaks an invariant among the first ``worlds`` worlds, and how many were seen."""
    queue = deque([(scene.first, scene.first.key())])
    came: dict[object, tuple[object, str] | None] = {queue[0][1]: None}
    seen = 0
    while queue and seen < worlds:
        world, here = queue.popleft()
        seen += 1
        broken, afterwards = _judge(world, scene, rules)
        if broken is not None:
            return Found(broken, _path(came, here), tuple(afterwards)), seen
        for sentence, move in moves(world, rules):
            if world.captures >= scene.captures and "captures" in sentence:
                continue
            after = step(world, move)
            if after.broken is not None:
                return Found(after.broken, (*_path(came, here), sentence), ()), seen
            key = after.key()
            if key not in came:
                came[key] = (here, sentence)
                queue.append((after, key))
    return None, seen


def _judge(world: World, scene: Scene, rules: Rules) -> tuple[str | None, list[str]]:
    if not scene.settles:
        return world.broken, []
    return verdict(world, rules, lost_stay=scene.lost_stay, checks_unused=scene.checks_unused)


def _path(came: dict[object, tuple[object, str] | None], at: object) -> tuple[str, ...]:
    path = []
    step_ = came[at]
    while step_ is not None:
        path.append(step_[1])
        step_ = came[step_[0]]
    return tuple(reversed(path))


def replay(scene: Scene, rules: Rules, schedule: tuple[str, ...]) -> Found | None:
    """Follow the sentences; a sentence that is not open at its turn is left out. What broke, if anything."""
    world, done = scene.first, []
    for sentence in schedule:
        move = next((each for name, each in moves(world, rules) if name == sentence), None)
        if move is None:
            continue
        world = step(world, move)
        done.append(sentence)
        if world.broken is not None:
            return Found(world.broken, tuple(done), ())
    broken, afterwards = _judge(world, scene, rules)
    return None if broken is None else Found(broken, tuple(done), tuple(afterwards))


def play(world: World, rules: Rules, *schedule: str) -> World:
    """Follow the sentences; each must be open at its turn."""
    for sentence in schedule:
        open_ = dict(moves(world, rules))
        assert sentence in open_, f"{sentence!r} is not open; open are: " + "; ".join(open_)
        world = step(world, open_[sentence])
    return world


def minimise(scene: Scene, rules: Rules, found: Found) -> Found:
    """Leave out every step without which the same invariant still breaks."""
    at = len(found.schedule) - 1
    while at >= 0:
        shorter = replay(scene, rules, (*found.schedule[:at], *found.schedule[at + 1 :]))
        if shorter is not None and shorter.invariant[:2] == found.invariant[:2]:
            found = shorter
            at = min(at, len(found.schedule))
        at -= 1
    return found


def walk(scene: Scene, rules: Rules, *, seed: int, steps: int, judge_every: int = 12) -> tuple[Found | None, int]:
    """One random schedule of at most ``steps``; judged on the way and at its end. What broke, and the steps made."""
    choose = random.Random(seed)
    world, done = scene.first, []
    for at in range(steps):
        open_ = list(moves(world, rules))
        if not open_:
            break
        sentence, move = choose.choice(open_)
        world = step(world, move)
        done.append(sentence)
        if world.broken is not None:
            return minimise(scene, rules, Found(world.broken, tuple(done), ())), len(done)
        if at % judge_every == judge_every - 1 or at == steps - 1:
            broken, afterwards = _judge(world, scene, rules)
            if broken is not None:
                return minimise(scene, rules, Found(broken, tuple(done), tuple(afterwards))), len(done)
    return None, len(done)
