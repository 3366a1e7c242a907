"""Ten thousand random schedules of writers, crashes at every step, lost replies, restarts, pins and retention.

The law: every acknowledged snapshot is restorable, exactly, until retention drops it; a fenced writer changes nothing;
a process that started empty never becomes head unless a person accepted it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from resonance.store.keyspace import Guard, Keyspace
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.testing import MemoryKeyspace
from tests.faults.dump import dump
from tests.faults.faulty import Fault, Plan
from tests.faults.world import Pod, World
from tests.redis_server import TlsRedis

SCHEDULES = 10_000
STEPS = 12

PICK = st.integers(0, 7)
SEEDS = st.integers(0, 1 << 16)
FAULTS = st.sampled_from([each for each in Fault if each is not Fault.NONE])
CALLS = st.integers(0, 5)


class Machine(RuleBasedStateMachine):
    """The schedules. Each rule is one thing that happens to one member."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.made()
        self._turn_of(self.world.start(), 1)

    @rule(pick=PICK, seed=SEEDS)
    def save(self, pick: int, seed: int) -> None:
        self._turn_of(self.pod(pick), seed)

    def made(self) -> World:
        keyspace = MemoryKeyspace()
        return World(keyspace, lambda: copy.deepcopy(keyspace.data))

    def pod(self, pick: int) -> Pod:
        return self.world.pods[-1 - pick % len(self.world.pods)]

    @rule(pick=PICK, seed=SEEDS, fault=FAULTS, at=CALLS, who=PICK)
    def save_under_a_fault(self, pick: int, seed: int, fault: Fault, at: int, who: int) -> None:
        pod, other = self.pod(pick), self.pod(who)
        self.world.change(pod, seed)
        plan = Plan(fault, at)
        if other is not pod:
            plan.other = lambda: self._turn_of(other, seed)
        self.world.save(pod, plan)

    def _turn_of(self, pod: Pod, seed: int) -> None:
        self.world.change(pod, seed + 1)
        self.world.save(pod, Plan())

    @rule(pick=PICK, fault=FAULTS, at=CALLS)
    def retry(self, pick: int, fault: Fault, at: int) -> None:
        self.world.retry(self.pod(pick), Plan(fault, at))

    @rule(empty=st.booleans(), seed=SEEDS, fault=FAULTS, at=CALLS)
    def replace_pod(self, empty: bool, seed: int, fault: Fault, at: int) -> None:
        pod = self.world.start(empty=empty)
        self.world.change(pod, seed)
        self.world.save(pod, Plan(fault, at))

    @rule(pick=PICK, empty=st.booleans())
    def restart_process(self, pick: int, empty: bool) -> None:
        self.world.restart_process(self.pod(pick), empty=empty)

    @rule(pick=PICK)
    def restart_agent(self, pick: int) -> None:
        self.world.restart_agent(self.pod(pick))

    @rule(pick=PICK)
    def pin_or_unpin(self, pick: int) -> None:
        self.world.toggle_pin(pick)

    @rule(pick=PICK)
    def accept(self, pick: int) -> None:
        self.world.accept(self.pod(pick))

    def teardown(self) -> None:
        self.world.verify()
        self.world.settle()
        self.world.verify()


class FailingOver(Machine):
    """The same, over a store that now and then falls back to an earlier moment, as a lagging replica does."""

    def made(self) -> World:
        self.keyspace = MemoryKeyspace()
        self.back: Callable[[], None] = lambda: None
        world = World(self.keyspace, lambda: copy.deepcopy(self.keyspace.data))
        self._remember(world)
        return world

    def _remember(self, world: World) -> None:
        data, fall_back = copy.deepcopy(self.keyspace.data), world.remember()

        def back() -> None:
            self.keyspace.data = copy.deepcopy(data)
            fall_back()

        self.back = back

    @rule()
    def replicate(self) -> None:
        self._remember(self.world)

    @rule()
    def fail_over(self) -> None:
        self.back()


class RealMachine(Machine):
    """The same over a real Redis, which is also killed and started."""

    server: ClassVar[TlsRedis]
    keyspace: ClassVar[Keyspace]

    def made(self) -> World:
        self.server.admin().flushall()
        return World(self.keyspace, self.dump)

    def dump(self) -> Mapping[str, object]:
        return dump(self.server.admin())

    @rule()
    def kill_redis(self) -> None:
        self.server.kill()
        self.server.start()


class Unguarded(MemoryKeyspace):
    """A store that never looks whether what was read still stands."""

    def _holds(self, guard: Guard) -> bool:
        return True


class UnguardedMachine(Machine):
    def made(self) -> World:
        keyspace = Unguarded()
        return World(keyspace, lambda: copy.deepcopy(keyspace.data))


def test_no_schedule_loses_an_acknowledged_snapshot() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=SCHEDULES, stateful_step_count=STEPS))


def test_what_a_failover_left_stays_whole_and_the_writers_go_on() -> None:
    run_state_machine_as_test(FailingOver, settings=settings(max_examples=1_000, stateful_step_count=STEPS))


@pytest.mark.redis
def test_no_schedule_loses_an_acknowledged_snapshot_in_a_real_redis() -> None:
    with TlsRedis(options=["--appendfsync", "always"]) as server:
        RealMachine.server, RealMachine.keyspace = server, RedisKeyspace(server.settings)
        run_state_machine_as_test(RealMachine, settings=settings(max_examples=60, stateful_step_count=STEPS))
        RealMachine.keyspace.close()


def test_the_schedules_would_notice_a_store_without_guards() -> None:
    quick = settings(max_examples=SCHEDULES, stateful_step_count=STEPS, phases=[Phase.generate], database=None)
    with pytest.raises(Exception, match=r"became head|the list is wrong|does not restore|fenced|dropped|head"):
        run_state_machine_as_test(UnguardedMachine, settings=quick)
