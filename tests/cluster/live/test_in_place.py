"""A process that dies in its pod goes on where its newest capture was, with and without an operator.

One StatefulSet of three: each test breaks another pod of it.
"""

from collections.abc import Iterator

import pytest
from tests.cluster.live.installation import Installation
from tests.cluster.live.network_app import assert_goes_on, assert_same
from tests.cluster.live.stage import AWAY, START, Life, Stage, eventually, staged
from tests.cluster.live.workloads import stateful_set


@pytest.fixture(scope="module", params=["operator present", "operator away"])
def three(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Three protected pods; then the operator goes, or stays."""
    with staged(installation, "in-place") as stage:
        stage.protect()
        stage.apply(stateful_set(replicas=3))
        for name in ("web-0", "web-1", "web-2"):
            stage.ready(name)
        if request.param == "operator present":
            yield stage
        else:
            with installation.operator_away():
                yield stage


def life(stage: Stage, name: str) -> Life:
    return stage.of_stateful_set(stage.ready(name))


def test_a_killed_process_comes_back_with_its_state(three: Stage) -> None:
    web = life(three, "web-0")
    before, head = web.acknowledged()
    web.kill()
    now = web.next_process(before)
    assert_same(before.state, now.state)
    assert now.restored_from == head.id
    web.app.tick(2)
    later = web.saved(web.app.export())
    assert_goes_on(before.state, later.state)
    assert (later.line, later.epoch, later.owner) == (head.line, head.epoch, web.uid)
    assert web.container()["restartCount"] == 1


def test_a_process_that_is_out_of_memory_comes_back_with_its_state(three: Stage) -> None:
    web = life(three, "web-1")
    before, head = web.acknowledged()
    with pytest.raises(AWAY):
        web.app.eat(400)
    now = web.next_process(before)
    assert_same(before.state, now.state)
    assert now.line == head.line
    assert web.container()["lastState"]["terminated"]["reason"] == "OOMKilled"
    web.app.tick()
    assert web.saved(web.app.export()).line == head.line


def test_a_killed_agent_comes_back_and_goes_on_saving_the_same_process(three: Stage) -> None:
    web = life(three, "web-2")
    before, head = web.acknowledged()
    web.kill("resonance-agent")
    web.app.tick(2)
    held = web.app.export()
    later = web.saved(held, seconds=START)
    assert held.incarnation == before.incarnation
    assert_goes_on(before.state, later.state)
    assert (later.line, later.epoch, later.owner) == (head.line, head.epoch, web.uid)
    assert later.parent == head.commit, "an agent that came back goes on from the head, it does not fork"
    assert web.container("resonance-agent")["restartCount"] == 1


def test_an_agent_that_came_back_restores_the_next_crash(three: Stage) -> None:
    web = life(three, "web-2")
    web.kill("resonance-agent")
    eventually("the agent to be back", START, lambda: "running" in web.container("resonance-agent")["state"])
    before, head = web.acknowledged()
    web.kill()
    now = web.next_process(before)
    assert_same(before.state, now.state)
    assert now.line == head.line
