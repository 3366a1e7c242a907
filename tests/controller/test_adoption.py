"""Pods that ran before the policy came are snapshotted from outside, and never under a wrong name."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resonance.controller.adoption import Process, WatchedSource, can_adopt, process_of
from resonance.controller.policy import PolicyLoop
from resonance.model.claim import Host
from resonance.model.errors import CaptureFailed
from resonance.model.pod import Injection, parse_pod
from resonance.model.report import Outcome
from resonance.store.member import Member, load
from tests.controller.builders import pod, pod_object, policy
from tests.controller.stage import NAMESPACE, FixedSource, Stage, breath, same_pod, until

DEPLOYMENT = "Deployment.web"


def play(stage: Stage, loop: PolicyLoop, story: Callable[[], Awaitable[None]]) -> None:
    """Run the story with the loop turning beside it."""

    async def turning() -> None:
        try:
            while True:
                await loop.turn()
                await breath(stage)
        finally:
            await loop._adoption.stop()

    async def both() -> None:
        beside = asyncio.create_task(turning())
        try:
            await story()
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
            stage.threads.shutdown()

    asyncio.run(both())


def head_of(stage: Stage, member: str, workload: str = "StatefulSet.web") -> Any:
    keys = stage.keys(workload)
    return load(stage.keyspace, Member(member, keys.member(member), keys)).record.head


def test_an_uninjected_pod_is_snapshotted_without_a_restart() -> None:
    stage = Stage()
    stage.pod("web-0")

    async def story() -> None:
        await until("a head stands", lambda: head_of(stage, "web-0") is not None)
        await until("the status says so", lambda: stage.condition("Current") == ("True", "Current"))

    play(stage, stage.policy(), story)
    assert stage.slots()["web-0"].host is Host.OPERATOR
    assert stage.condition("Injected") == ("False", "Adopted")


def test_a_slot_is_found_for_an_adopted_replica() -> None:
    stage = Stage()
    stage.deployment()
    stage.replica("web-a", injected=False)

    async def story() -> None:
        await until("a head stands", lambda: head_of(stage, "slot-0", DEPLOYMENT) is not None)

    play(stage, stage.policy(), story)


def test_a_restarted_operator_goes_on_with_the_same_member() -> None:
    stage = Stage()
    stage.deployment(replicas=2)
    stage.replica("web-a", injected=False)

    async def story() -> None:
        await until("a head stands", lambda: head_of(stage, "slot-0", DEPLOYMENT) is not None)

    play(stage, stage.policy(), story)
    again = Stage()
    again.keyspace, again.world, again.cluster = stage.keyspace, stage.world, stage.cluster
    again.deployment(replicas=2)
    again.tools = type(stage.tools)(
        stage.world,
        stage.cluster,
        stage.tools.stores,
        stage.tools.metrics,
        stage.tools.agent,
        again.tools.adoption,
        lambda: again.now,
        lambda: again.seconds,
    )

    async def sequel() -> None:
        await until("it captures again", lambda: bool(again.captured))

    play(again, again.policy(), sequel)
    assert list(again.slots(DEPLOYMENT)) == ["slot-0"]


def test_a_capture_counts_only_if_the_pod_is_still_the_same_afterwards() -> None:
    stage = Stage()
    raw = stage.pod("web-0")

    def replaced() -> None:
        stage.cluster.pods["web-0"] = same_pod(raw, uid="somebody-else")

    stage.source.after = replaced

    async def story() -> None:
        await until("a capture failed", lambda: any(each.outcome is Outcome.CAPTURE_FAILED for each in stage.captured))

    play(stage, stage.policy(), story)
    assert head_of(stage, "web-0") is None


def test_the_old_pod_hands_over_to_the_newcomer_of_a_roll_out() -> None:
    stage = Stage()
    stage.deployment()
    stage.replica("web-a", injected=False)

    async def story() -> None:
        await until("a head stands", lambda: head_of(stage, "slot-0", DEPLOYMENT) is not None)
        new = stage.replica("web-b", template="h2")
        reads = stage.source.reads
        assert stage.claims(new, DEPLOYMENT).reserved

        def answered() -> bool:
            after = stage.slots(DEPLOYMENT)["slot-0"].next
            return after is not None and after.answered

        await until("the operator answers for the old pod", answered)
        assert stage.source.reads > reads

    play(stage, stage.policy(), story)


def test_a_pod_that_is_told_to_end_is_captured_once_more() -> None:
    stage = Stage()
    raw = stage.pod("web-0")

    async def story() -> None:
        await until("a head stands", lambda: head_of(stage, "web-0") is not None)
        reads = stage.source.reads
        ending = same_pod(raw, deletionTimestamp="2026-05-04T12:00:00Z")
        stage.cluster.pods["web-0"] = ending
        stage.world.put_pod(ending)
        await until("another capture", lambda: stage.source.reads > reads)

    play(stage, stage.policy(spec={"schedule": {"every": "1h"}}), story)


def test_adoption_ends_with_the_pod_and_its_member_is_released() -> None:
    stage = Stage()
    stage.pod("web-0")

    async def story() -> None:
        await until("a head stands", lambda: head_of(stage, "web-0") is not None)
        del stage.cluster.pods["web-0"]
        stage.world.drop_pod(NAMESPACE, "web-0", "uid-web-0")
        await until("released", lambda: stage.slots()["web-0"].holder is None)
        reads = stage.source.reads
        before = stage.turns
        await until("more turns", lambda: stage.turns >= before + 8)
        assert stage.source.reads == reads

    play(stage, stage.policy(spec={"schedule": {"every": "1s"}}), story)


def test_a_suspended_policy_adopts_nobody() -> None:
    stage = Stage()
    stage.pod("web-0")

    async def story() -> None:
        await until(
            "the status says so", lambda: bool(stage.cluster.statuses) and stage.condition("Current")[1] == "Suspended"
        )

    play(stage, stage.policy(spec={"schedule": {"suspend": True}}), story)
    assert stage.source.reads == 0


@pytest.mark.parametrize(
    ("given", "adopted"),
    [
        ({}, True),
        ({"ready": False}, False),
        ({"terminating": True}, False),
        ({"phase": "Pending"}, True),
        ({"phase": "Failed"}, False),
        ({"ip": ""}, False),
        ({"kind": "Job"}, False),
        ({"injection": Injection.INJECTED}, False),
        ({"injection": Injection.HOST_NETWORK}, False),
        ({"containers": ()}, False),
    ],
)
def test_only_a_running_ready_pod_without_the_agent_is_adopted(given: dict[str, Any], adopted: bool) -> None:
    bare = {"injection": Injection.OLDER_THAN_POLICY}
    assert can_adopt(pod(**{**bare, **given}), policy()) is adopted


def test_a_container_that_restarted_during_the_capture_is_noticed_and_read_again() -> None:
    first, second = pod_object("web-0"), pod_object("web-0")
    second["status"]["containerStatuses"][0]["containerID"] = "containerd://again"
    expected = process_of(parse_pod(first), None)
    assert expected == Process("uid-web-0", "10.0.0.7", "containerd://web-0")
    source = WatchedSource(FixedSource(), lambda: parse_pod(second), expected, None)
    with pytest.raises(CaptureFailed, match="restarted during the capture"):
        source.read(None)
    assert source.read(None).document is not None


def test_an_api_server_that_does_not_answer_makes_no_capture_count() -> None:
    def ask() -> Any:
        raise CaptureFailed("the API server could not confirm it")

    source = WatchedSource(FixedSource(), ask, Process("u", "ip", "c"), None)
    with pytest.raises(CaptureFailed, match="could not confirm"):
        source.read(None)
