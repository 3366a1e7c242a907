"""A graceful delete loses nothing: what the app had when its preStop hook was answered, the next pod starts with."""

from concurrent.futures import ThreadPoolExecutor

from tests.cluster.live.network_app import Exported, after, assert_same
from tests.cluster.live.stage import AWAY, SAVE, START, Life, Stage, eventually
from tests.cluster.live.workloads import Replace, deployment, stateful_set

NEVER = {"every": "1h"}  # so that only the end of the pod can save


def replaced(stage: Stage, old: Life) -> Exported:
    """Delete the pod, and give what the next one of its name starts with."""
    stage.kubectl("delete", "pod", old.name, "--wait=false")
    return stage.of_stateful_set(stage.ready(old.name, but=old.uid)).app.export()


def test_a_graceful_delete_loses_not_one_tick(stage: Stage) -> None:
    stage.protect(schedule=NEVER)
    stage.apply(stateful_set("words"), stateful_set("mute", "--no-final"))
    words, mute = (stage.of_stateful_set(stage.ready(f"{name}-0")) for name in ("words", "mute"))
    with ThreadPoolExecutor() as pool:
        final = pool.submit(ticked_until_its_end, stage, words)
        flushed = pool.submit(quiet_at_its_end, stage, mute)
        for each in (final, flushed):
            each.result()


def ticked_until_its_end(stage: Stage, web: Life) -> None:
    """The app goes on until SIGTERM, long after its hook was answered, and leaves a final file."""
    first, _ = first_saved(web)
    stage.kubectl("delete", "pod", web.name, "--wait=false")
    last = first.tick
    try:
        while True:
            last = web.app.tick()
    except AWAY:
        pass
    now = stage.of_stateful_set(stage.ready(web.name, but=web.uid)).app.export()
    assert last > first.tick + 3, "it ticked on while it was being ended"
    assert last <= now.tick <= last + 1, "all that it acknowledged, and at most the one tick that was under way"
    assert_same(after(first.state, now.tick - first.tick), now.state)


def quiet_at_its_end(stage: Stage, web: Life) -> None:
    """The app says nothing at its end: the flush has what it had when the hook was called."""
    first, _ = first_saved(web)
    web.app.tick(5)
    held = web.app.export()
    now = replaced(stage, web)
    assert held.tick == first.tick + 5
    assert_same(held.state, now.state)


def first_saved(web: Life) -> tuple[Exported, object]:
    """The first capture comes at once, whatever the interval."""
    head = eventually(f"the first snapshot of {web.name}", SAVE, web.member.snapshot)
    held = web.app.export()
    assert_same(held.state, head.state)
    return held, head


def test_a_recreated_deployment_loses_not_one_tick(stage: Stage) -> None:
    stage.protect(schedule=NEVER)
    stage.apply(deployment("edge", replace=Replace.RECREATE))
    old = stage.of_deployment(stage.ready_of("edge"))
    first, _ = first_saved(old)
    stage.kubectl("rollout", "restart", "deployment/edge")
    last = first.tick
    try:
        while True:
            last = old.app.tick()
    except AWAY:
        pass
    now = stage.of_deployment(stage.ready_of("edge", but=(old.uid,), seconds=START)).app.export()
    assert last <= now.tick <= last + 1
    assert_same(after(first.state, now.tick - first.tick), now.state)
