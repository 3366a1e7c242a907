"""What a policy's loop does in one turn: accept, tell the agents, release who is gone, and say how it stands."""

import asyncio
import contextlib
from typing import Any

from resonance.controller.api import ApiFailed
from resonance.controller.control import Control
from resonance.controller.policy import PolicyLoop
from resonance.model.errors import StoreRefused
from resonance.model.report import Outcome
from resonance.store.workload import PolicyRecord, write_policy
from tests.controller.builders import head, report
from tests.controller.stage import NAMESPACE, WEB, Stage, same_pod, until

DEPLOYMENT = "Deployment.web"


def turn(loop: PolicyLoop, times: int = 1) -> None:
    async def turns() -> None:
        for _ in range(times):
            await loop.turn()

    asyncio.run(turns())


def test_a_valid_policy_is_accepted_with_what_the_injection_needs() -> None:
    stage = Stage()
    turn(stage.policy())
    assert stage.condition("Accepted") == ("True", "Accepted")
    assert stage.cluster.statuses[0]["agent"]["image"] == "example/agent:1"
    assert stage.cluster.statuses[0]["agent"]["cluster"] == "cluster-1"


def test_accepting_does_not_wait_for_the_store() -> None:
    stage = Stage()
    stage.keyspace.away = True
    turn(stage.policy())
    assert stage.condition("Accepted") == ("True", "Accepted")
    assert stage.condition("StoreReachable") == ("False", "StoreUnreachable")
    assert stage.condition("Ready") == ("False", "StoreUnreachable")


def test_a_missing_secret_is_named_and_its_coming_is_noticed() -> None:
    stage = Stage()
    kept = stage.cluster.secrets.pop("resonance-redis")
    loop = stage.policy()
    turn(loop)
    assert stage.condition("StoreReachable") == ("False", "SecretMissing")
    assert "resonance-redis does not exist in namespace demo" in stage.message("StoreReachable")
    stage.cluster.secrets["resonance-redis"] = kept
    stage.later(31)
    turn(loop)
    assert stage.condition("StoreReachable") == ("True", "Reachable")


def test_a_wrong_secret_is_said_without_its_values() -> None:
    stage = Stage()
    stage.cluster.secrets["resonance-redis"] |= {"url": "redis://redis:6379", "password": "hunter2"}
    turn(stage.policy())
    assert stage.condition("StoreReachable") == ("False", "SecretInvalid")
    assert "rediss://" in stage.message("StoreReachable")
    assert "hunter2" not in str(stage.cluster.statuses)


def test_the_agents_of_a_workload_are_told_before_its_first_pod_is_there() -> None:
    stage = Stage()
    stage.deployment(replicas=3)
    turn(stage.policy())
    record = stage.record(DEPLOYMENT)
    assert record is not None
    assert (record.wanted, record.every_ms, record.live, record.deleted) == (3, 10_000, (), False)
    assert (record.cluster, record.policy_uid) == ("cluster-1", "uid-web")


def test_live_pods_are_listed_and_those_that_end_are_not() -> None:
    stage = Stage()
    stage.deployment()
    stage.replica("web-a")
    stage.replica("web-b", deletionTimestamp="2026-05-04T12:00:00Z")
    turn(stage.policy())
    record = stage.record(DEPLOYMENT)
    assert record is not None
    assert record.live == ("uid-web-a",)


def test_named_members_need_no_count() -> None:
    stage = Stage()
    stage.pod("web-0", injected=True)
    turn(stage.policy())
    record = stage.record()
    assert record is not None
    assert record.wanted is None


def test_a_count_that_is_not_known_yet_is_not_zero() -> None:
    stage = Stage()
    stage.replica("web-a")
    stage.claims(stage.cluster.pods["web-a"], DEPLOYMENT, wanted=2)
    turn(stage.policy())
    record = stage.record(DEPLOYMENT)
    assert record is not None
    assert record.wanted == 2


def test_a_bare_replica_set_is_asked_for_its_count() -> None:
    stage = Stage()
    stage.cluster.replica_sets["solo"] = {"spec": {"replicas": 2}}
    stage.pod("solo-1", owner=("ReplicaSet", "solo"), injected=True)
    turn(stage.policy())
    record = stage.record("ReplicaSet.solo")
    assert record is not None
    assert record.wanted == 2


def test_the_newest_seq_ever_seen_never_goes_back() -> None:
    stage = Stage()
    raw = stage.pod("web-0", injected=True)
    stage.claims(raw)
    key = stage.keys().member("web-0").head
    loop = stage.policy()
    for seq, known in ((9, 9), (4, 9)):
        stage.keyspace.data[key] = {name.encode(): text.encode() for name, text in head(seq).to_fields().items()}
        turn(loop)
        record = stage.record()
        assert record is not None
        assert record.known == {"web-0": known}
    del stage.keyspace.data[key]
    turn(PolicyLoop(WEB, "uid-web", stage.tools))
    record = stage.record()
    assert record is not None
    assert record.known == {"web-0": 9}


def test_nothing_is_written_to_the_record_while_nothing_changes() -> None:
    stage = Stage()
    stage.pod("web-0", injected=True)
    loop = stage.policy()
    turn(loop)
    before = list(stage.keyspace.written)
    turn(loop, times=3)
    assert stage.keyspace.written == before


# --------------------------------------------------------------------------------------------------------- releasing


def test_a_pod_that_is_gone_is_released_and_delisted_first() -> None:
    stage = Stage()
    stage.deployment()
    raw = stage.replica("web-a")
    loop = stage.policy()
    turn(loop)
    stage.claims(raw, DEPLOYMENT)
    del stage.cluster.pods["web-a"]
    stage.world.drop_pod(NAMESPACE, "web-a", "uid-web-a")
    stage.keyspace.written.clear()
    turn(loop)
    assert stage.slots(DEPLOYMENT)["slot-0"].holder is None
    keys = stage.keys(DEPLOYMENT)
    assert stage.keyspace.written == [keys.policy, keys.slots]


def test_a_pod_that_the_watch_has_not_told_of_yet_keeps_its_member() -> None:
    stage = Stage()
    stage.deployment()
    raw = stage.replica("web-a")
    stage.claims(raw, DEPLOYMENT, wanted=1)
    stage.world.drop_pod(NAMESPACE, "web-a", "uid-web-a")
    turn(stage.policy())
    assert stage.slots(DEPLOYMENT)["slot-0"].holder == "uid-web-a"
    assert stage.world.pod(NAMESPACE, "web-a") is not None


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    stage = Stage()
    raw = stage.pod("web-0", injected=True, uid="old")
    stage.claims(raw)
    stage.cluster.pods["web-0"] = same_pod(raw, uid="new")
    stage.world.put_pod(stage.cluster.pods["web-0"])
    turn(stage.policy())
    assert stage.slots()["web-0"].holder is None


def test_a_pod_being_ended_keeps_its_member_while_its_node_answers() -> None:
    stage = Stage()
    stage.deployment()
    raw = stage.replica("web-a", deletionTimestamp="2026-05-04T12:00:00Z")
    stage.claims(raw, DEPLOYMENT, wanted=1)
    loop = stage.policy()
    turn(loop)
    assert stage.slots(DEPLOYMENT)["slot-0"].holder == "uid-web-a"
    stage.cluster.silent_nodes.add("node1")
    turn(loop)
    assert stage.slots(DEPLOYMENT)["slot-0"].holder is None


def test_a_pod_on_a_silent_node_that_nobody_ends_keeps_its_member() -> None:
    stage = Stage()
    raw = stage.pod("web-0", injected=True)
    stage.claims(raw)
    stage.cluster.silent_nodes.add("node1")
    turn(stage.policy())
    assert stage.slots()["web-0"].holder == "uid-web-0"


def test_a_pod_that_has_ended_is_released_though_its_object_stays() -> None:
    stage = Stage()
    raw = stage.pod("web-0", injected=True)
    stage.claims(raw)
    raw["status"]["phase"] = "Succeeded"
    stage.world.put_pod(raw)
    turn(stage.policy())
    assert stage.slots()["web-0"].holder is None


def test_a_dead_newcomer_is_cleared_and_the_holder_stays() -> None:
    stage = Stage()
    stage.deployment()
    old = stage.replica("web-a")
    new = stage.replica("web-b", template="h2")
    stage.claims(old, DEPLOYMENT, wanted=1)
    assert stage.claims(new, DEPLOYMENT).reserved
    del stage.cluster.pods["web-b"]
    stage.world.drop_pod(NAMESPACE, "web-b", "uid-web-b")
    turn(stage.policy())
    record = stage.slots(DEPLOYMENT)["slot-0"]
    assert (record.holder, record.next) == ("uid-web-a", None)


def test_a_silent_ghost_is_found_out() -> None:
    stage = Stage()
    stage.deployment()
    raw = stage.replica("web-a")
    loop = stage.policy()
    turn(loop)
    stage.claims(raw, DEPLOYMENT)
    del stage.cluster.pods["web-a"]  # and no watch tells of it
    stage.later(45)
    turn(loop)
    assert stage.world.pods(NAMESPACE) == []
    assert stage.slots(DEPLOYMENT)["slot-0"].holder is None


def test_nobody_is_released_while_the_api_server_is_away_but_the_agents_are_told() -> None:
    stage = Stage()
    stage.deployment(replicas=1)
    raw = stage.replica("web-a")
    loop = stage.policy()
    turn(loop)
    stage.claims(raw, DEPLOYMENT)
    stage.world.drop_pod(NAMESPACE, "web-a", "uid-web-a")
    stage.deployment(replicas=4)
    stage.cluster.away = True
    with contextlib.suppress(ApiFailed):  # the status cannot be written
        turn(loop)
    assert stage.slots(DEPLOYMENT)["slot-0"].holder == "uid-web-a"
    record = stage.record(DEPLOYMENT)
    assert record is not None
    assert record.wanted == 4


def test_a_pod_that_waited_and_is_gone_is_forgotten() -> None:
    stage = Stage()
    stage.deployment()
    stage.keyspace.apply([], [("HSET", stage.keys(DEPLOYMENT).waiting, "uid-x", '{"pod": "web-x", "reason": "r"}')])
    turn(stage.policy())
    assert stage.keys(DEPLOYMENT).waiting not in stage.keyspace.data


# ------------------------------------------------------------------------------------------------------- refusing


def test_another_clusters_keys_are_left_alone_and_the_policy_refused() -> None:
    stage = Stage()
    stage.deployment()
    loop = stage.policy()
    turn(loop)
    record = stage.record(DEPLOYMENT)
    assert record is not None
    write_policy(stage.keyspace, stage.keys(DEPLOYMENT), theirs := type(record)("cluster-2", "u", 1, 10_000))
    turn(loop)
    assert stage.record(DEPLOYMENT) == theirs
    assert stage.condition("Accepted") == ("False", "OtherCluster")
    assert "another spec.store.prefix" in stage.message("Accepted")


def test_the_later_of_two_policies_is_accepted_once_the_earlier_is_gone() -> None:
    stage = Stage()
    stage.policy("first")
    loop = stage.policy("second", created="2026-05-04T11:00:01Z")
    turn(loop)
    assert stage.condition("Accepted") == ("False", "Overlaps")
    assert "agent" not in stage.cluster.statuses[-1] or stage.condition("Accepted")[0] == "False"
    stage.world.drop_policy(type(WEB)(NAMESPACE, "first"), "uid-first")
    turn(loop)
    assert stage.condition("Accepted") == ("True", "Accepted")


def test_surge_and_jobs_are_warned_about_but_accepted() -> None:
    stage = Stage()
    stage.deployment()
    stage.pod("once-1", owner=("Job", "once"))
    turn(stage.policy())
    assert stage.condition("Accepted") == ("True", "Surges")
    assert "Deployment.web" in stage.message("Accepted")
    assert "Job.once are left alone" in stage.message("Accepted")


def test_strategies_that_lose_nothing_are_not_warned_about() -> None:
    for spec in ({"strategy": {"type": "Recreate"}}, {"strategy": {"rollingUpdate": {"maxSurge": 0}}}):
        stage = Stage()
        stage.deployment(**spec)
        turn(stage.policy())
        assert stage.condition("Accepted") == ("True", "Accepted")


# --------------------------------------------------------------------------------------------------------- saying


def settled() -> tuple[Stage, PolicyLoop]:
    stage = Stage()
    raw = stage.pod("web-0", injected=True)
    stage.claims(raw)
    loop = stage.policy()
    stage.reports("web-0", report(taken_ago_ms=3000))
    turn(loop)
    return stage, loop


def test_at_rest_a_status_is_written_at_most_once_in_thirty_seconds() -> None:
    stage, loop = settled()
    before = len(stage.cluster.statuses)
    for _ in range(12):
        stage.later(10)
        stage.reports("web-0", report(taken_ago_ms=3000))
        turn(loop)
    assert len(stage.cluster.statuses) - before == 4
    assert stage.condition("Current") == ("True", "Current")


def test_ages_are_counted_on_the_clock_of_redis() -> None:
    stage, loop = settled()
    stage.keyspace.at_ms += 18_000
    turn(loop)
    assert stage.condition("Current")[0] == "False"
    assert "21s old" in stage.message("Current")


def test_ages_go_on_while_the_store_is_away() -> None:
    stage, loop = settled()
    stage.keyspace.away = True
    stage.later(10)
    turn(loop)
    assert stage.condition("Current") == ("True", "Current")
    stage.later(10)
    turn(loop)
    assert stage.condition("Current")[0] == "False"
    assert stage.condition("StoreReachable") == ("False", "StoreUnreachable")


def test_what_the_writer_reports_is_the_reason() -> None:
    stage, loop = settled()
    stage.later(30)
    stage.reports("web-0", report(outcome=Outcome.NOT_READY, message="503.", taken_ago_ms=33_000))
    turn(loop)
    assert stage.condition("Current") == ("False", "NotReady")


def test_events_are_posted_on_transitions_only() -> None:
    stage, loop = settled()
    before = len(stage.cluster.events)
    turn(loop, times=3)
    assert len(stage.cluster.events) == before
    stage.later(60)
    turn(loop)
    news = stage.cluster.events[before:]
    assert {each["reason"] for each in news} == {"ReportStale"}
    assert {each["type"] for each in news} == {"Warning"}


def test_a_store_that_evicts_is_said() -> None:
    stage, loop = settled()
    stage.keyspace.info = lambda: {"maxmemory_policy": "allkeys-lru"}  # type: ignore[method-assign]
    turn(loop)
    assert stage.condition("StoreSafe") == ("False", "EvictionAllowed")


def test_a_store_that_hides_its_info_is_said() -> None:
    def refuse() -> Any:
        raise StoreRefused("NOPERM this user has no permissions to run the 'info' command")

    stage, loop = settled()
    stage.keyspace.info = refuse  # type: ignore[method-assign]
    turn(loop)
    assert stage.condition("StoreSafe") == ("False", "InfoRefused")
    assert stage.condition("StoreReachable") == ("True", "Reachable")


# ---------------------------------------------------------------------------------------------------- coming and going


def test_a_deleted_policy_leaves_a_tombstone_and_its_data() -> None:
    stage = Stage()
    stage.pod("web-0", injected=True)

    async def story() -> None:
        stage.policy()
        control = asyncio.create_task(Control(stage.tools).run())
        await until("the agents are told", lambda: stage.record() is not None)
        stage.world.drop_policy(WEB, "uid-web")
        await until("a tombstone stands", lambda: (each := stage.record()) is not None and each.deleted)
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)

    asyncio.run(story())


def test_a_policy_that_was_deleted_while_the_operator_was_away_is_buried_by_its_pods() -> None:
    stage = Stage()
    agent = {
        "name": "resonance-agent",
        "env": [
            {"name": "RESONANCE_POLICY_UID", "value": "uid-web"},
            {"name": "RESONANCE_PREFIX", "value": "resonance"},
        ],
    }
    volume = {"name": "resonance-store", "secret": {"secretName": "resonance-redis"}}
    stage.pod("web-0", injected=True, spec={"initContainers": [agent], "volumes": [volume]})
    write_policy(stage.keyspace, stage.keys(), PolicyRecord("cluster-1", "uid-web", 1, 10_000))

    async def story() -> None:
        control = asyncio.create_task(Control(stage.tools).run())
        await until("a tombstone stands", lambda: (each := stage.record()) is not None and each.deleted)
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)

    asyncio.run(story())


def test_a_recreated_policy_takes_the_tombstone_away() -> None:
    stage = Stage()
    stage.pod("web-0", injected=True)

    async def story() -> None:
        stage.policy()
        control = asyncio.create_task(Control(stage.tools).run())
        await until("the agents are told", lambda: stage.record() is not None)
        stage.world.drop_policy(WEB, "uid-web")
        stage.policy(uid="uid-again")
        await until(
            "the new policy's record stands",
            lambda: (each := stage.record()) is not None and each.policy_uid == "uid-again" and not each.deleted,
        )
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)

    asyncio.run(story())


def test_a_policy_is_acted_upon_within_a_second_of_its_coming() -> None:
    stage = Stage()
    stage.deployment()

    async def story() -> float:
        control = asyncio.create_task(Control(stage.tools).run())
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        stage.policy()
        await until("accepted", lambda: bool(stage.cluster.statuses))
        took = asyncio.get_running_loop().time() - began
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)
        return took

    assert asyncio.run(story()) < 1
