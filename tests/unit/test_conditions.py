"""The whole status is a function of facts; a change of a condition goes out at once, anything else at a pace."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.controller.builders import AGENT, NOW, SAFE, facts, facts_of_pod, head, pod, policy, policy_object, report

from resonance.model.acceptance import Said
from resonance.model.facts import Facts, PodFacts, Proved, StoreFacts, Verified
from resonance.model.pod import Container, Injection
from resonance.model.report import Outcome
from resonance.model.resource import parse_policy
from resonance.model.status import (
    MAX_MEMBERS,
    MAX_MESSAGE,
    PACE,
    agent_of,
    decide_write,
    status_of,
    told_by,
    transitions,
)

GOLDEN = Path(__file__).parent / "golden"
SECOND = timedelta(seconds=1)


def condition(given: Facts, kind: str, previous: dict[str, Any] | None = None) -> tuple[str, str, str]:
    found = {each["type"]: each for each in status_of(given, previous)["conditions"]}
    return found[kind]["status"], found[kind]["reason"], found[kind]["message"]


def test_all_is_well_as_in_the_golden_file() -> None:
    two = [facts_of_pod("web-0"), facts_of_pod("web-1", age=7 * SECOND, report=report(uid="uid-web-1", gap_ms=11_200))]
    status = status_of(facts(two), None)
    assert status == yaml.safe_load((GOLDEN / "status-ready.yaml").read_text())


def test_trouble_is_as_in_the_golden_file() -> None:
    late = facts_of_pod(
        "web-1",
        age=65 * SECOND,
        report=report(uid="uid-web-1", outcome=Outcome.CAPTURE_FAILED, message="GET http://127.0.0.1:8080: timed out."),
    )
    danger = Said("EvictionAllowed", "maxmemory-policy is allkeys-lru: set it to noeviction.")
    status = status_of(facts([facts_of_pod(), late], store=replace(SAFE, dangers=(danger,))), None)
    assert status == yaml.safe_load((GOLDEN / "status-trouble.yaml").read_text())


# One change of the facts → the one condition that says so.
YOUNG = pod("web-0", created=NOW - 3 * SECOND)
IMPATIENT = policy(rpo=2 * SECOND, every=SECOND)
BARE = pod("web-0", injection=Injection.OLDER_THAN_POLICY, mark="")
SAID = Said("StoreRefused", "Redis refused.")
CHANGES: list[tuple[str, Facts, str, str, str, str]] = [
    ("refused", facts(refusal=Said("Overlaps", "x also selects")), "Accepted", "False", "Overlaps", "also selects"),
    ("warned", facts(warnings=(Said("Surges", "Deployment.a: …"),)), "Accepted", "True", "Surges", "Deployment.a"),
    ("away", facts(store=replace(SAFE, trouble=SAID)), "StoreReachable", "False", "StoreRefused", "refused"),
    ("not asked", facts(store=StoreFacts()), "StoreReachable", "Unknown", "NotAskedYet", "first time"),
    ("unsafe", facts(store=replace(SAFE, dangers=(SAID,))), "StoreSafe", "False", "StoreRefused", "redis.prod"),
    ("not judged", facts(store=replace(SAFE, dangers=None)), "StoreSafe", "Unknown", "NotAskedYet", "could not"),
    (
        "unreplicated",
        facts([facts_of_pod(report=report(outcome=Outcome.SAVED_UNREPLICATED))]),
        "StoreSafe",
        "False",
        "SavedUnreplicated",
        "web-0",
    ),
    ("adopted", facts([facts_of_pod(pod=BARE)]), "Injected", "False", "Adopted", "web-0 ran before the policy"),
    (
        "host network",
        facts([facts_of_pod(pod=replace(BARE, injection=Injection.HOST_NETWORK))]),
        "Injected",
        "False",
        "HostNetwork",
        "can't carry the agent",
    ),
    ("detached", facts(detached=("web-9",)), "Injected", "False", "Detached", "web-9"),
    (
        "own hook",
        facts([facts_of_pod(pod=pod(containers=(Container("app", "x", own_prestop=True),)))]),
        "Injected",
        "True",
        "PreStopTaken",
        "http://127.0.0.1:9477/flush",
    ),
    ("no pods", facts([]), "Injected", "Unknown", "NoPods", "no pod matches"),
    (
        "no pods, but wanted",
        facts([], expected=("StatefulSet.web",)),
        "Current",
        "Unknown",
        "Starting",
        "StatefulSet.web",
    ),
    ("suspended", facts(policy=policy(suspend=True)), "Current", "False", "Suspended", "suspend is true"),
    ("late", facts([facts_of_pod(age=21 * SECOND)]), "Current", "False", "Late", "21s old, the target is 20s"),
    (
        "failing",
        facts([facts_of_pod(age=21 * SECOND, report=report(outcome=Outcome.NOT_READY, message="503."))]),
        "Current",
        "False",
        "NotReady",
        "503.",
    ),
    (
        "failing, but not late yet",
        facts([facts_of_pod(report=report(outcome=Outcome.NOT_READY, message="503."))]),
        "Current",
        "True",
        "Current",
        "younger than 20s",
    ),
    (
        "silent",
        facts([facts_of_pod(silent=31 * SECOND)]),
        "Current",
        "False",
        "ReportStale",
        "has not reported for 31s",
    ),
    (
        "waiting",
        facts([PodFacts(pod(), waiting="AllSlotsHeld")]),
        "Current",
        "False",
        "WaitingForMember",
        "AllSlotsHeld",
    ),
    ("no member", facts([PodFacts(pod())]), "Current", "False", "NoMember", "it has no snapshot"),
    (
        "no report",
        facts([facts_of_pod(report=None, age=None, silent=None)]),
        "Current",
        "False",
        "NoReport",
        "has not reported since it started",
    ),
    (
        "another pod's report",
        facts([facts_of_pod(report=report(uid="its-predecessor"), age=40 * SECOND)]),
        "Current",
        "False",
        "NoReport",
        "40s old",
    ),
    ("young, short target", facts([PodFacts(YOUNG)], policy=IMPATIENT), "Current", "Unknown", "Starting", "web-0"),
    (
        "no proof, but nothing was captured",
        facts([facts_of_pod(report=report(proven=False, incarnation=""))]),
        "Protected",
        "Unknown",
        "NothingCaptured",
        "no app",
    ),
    ("young", facts([PodFacts(YOUNG)]), "Current", "Unknown", "Starting", "web-0"),
    (
        "young, its predecessor's snapshot is",
        facts([facts_of_pod(pod=YOUNG, report=report(uid="its-predecessor"))]),
        "Current",
        "True",
        "Current",
        "younger",
    ),
    (
        "quarantined",
        facts([facts_of_pod(report=report(quarantined="inc-9"))]),
        "Protected",
        "False",
        "Quarantined",
        "process inc-9 started without",
    ),
    (
        "no proof",
        facts([facts_of_pod(report=report(proven=False))]),
        "Protected",
        "False",
        "AppDoesNotProve",
        "Resonance-Incarnation",
    ),
    (
        "nothing captured",
        facts([facts_of_pod(report=report(incarnation=""))]),
        "Protected",
        "Unknown",
        "NothingCaptured",
        "no app",
    ),
    (
        "damaged",
        facts([facts_of_pod(verified=Verified(Proved.DAMAGED, "line-1.7", "A restore would use snapshot line-1.6."))]),
        "Restorable",
        "False",
        "HeadDamaged",
        "line-1.6",
    ),
    ("not opened", facts([facts_of_pod(verified=None)]), "Restorable", "Unknown", "NotVerifiedYet", "web-0"),
    ("no head", facts([facts_of_pod(head=None)]), "Restorable", "Unknown", "NoSnapshot", "no snapshot yet"),
    (
        "too large",
        facts([facts_of_pod(verified=Verified(Proved.TOO_LARGE, "line-1.7"))]),
        "Restorable",
        "True",
        "NotAllOpened",
        "web-0",
    ),
]


@pytest.mark.parametrize(
    ("given", "kind", "status", "reason", "text"), [each[1:] for each in CHANGES], ids=[each[0] for each in CHANGES]
)
def test_each_fact_shows_in_its_condition(given: Facts, kind: str, status: str, reason: str, text: str) -> None:
    found = condition(given, kind)
    assert found[:2] == (status, reason), found
    assert text in found[2]


@pytest.mark.parametrize(
    ("given", "status"), [(each[1], each[3]) for each in CHANGES], ids=[each[0] for each in CHANGES]
)
def test_ready_is_never_better_than_the_worst_condition(given: Facts, status: str) -> None:
    order = ["False", "Unknown", "True"]
    conditions = status_of(given, None)["conditions"]
    worst = min((each["status"] for each in conditions if each["type"] != "Ready"), key=order.index)
    assert conditions[-1]["type"] == "Ready"
    assert conditions[-1]["status"] == worst


def test_ready_names_the_first_condition_that_fails() -> None:
    found = condition(facts([facts_of_pod(pod=BARE, age=40 * SECOND)]), "Ready")
    assert found[:2] == ("False", "Adopted")
    assert found[2].startswith("Injected: web-0")


def test_a_pod_that_came_after_the_acceptance_without_the_agent_is_not_called_adopted() -> None:
    previous = status_of(facts(now=NOW - timedelta(minutes=10)), None)
    found = condition(
        facts([facts_of_pod(pod=replace(BARE, created=NOW - timedelta(minutes=5)))]), "Injected", previous
    )
    assert found[1] == "InjectionMissing"
    assert "manifests/injection" in found[2]


def test_a_newcomer_beside_its_living_predecessor_is_not_one_more_member() -> None:
    old, new = facts_of_pod("web-a", member="slot-0"), PodFacts(pod("web-b"), member="slot-0", reserved=True)
    status = status_of(facts([old, new]), None)
    assert status["summary"]["members"] == "1/1"
    assert [each["pod"] for each in status["members"]] == ["web-a"]


def test_a_pod_being_ended_counts_until_its_successor_is_there() -> None:
    ending = facts_of_pod("web-a", member="slot-0", pod=pod("web-a", terminating=True))
    new = facts_of_pod("web-b", member="slot-0", reserved=True)
    assert [each["pod"] for each in status_of(facts([ending]), None)["members"]] == ["web-a"]
    assert [each["pod"] for each in status_of(facts([ending, new]), None)["members"]] == ["web-b"]


def test_two_workloads_with_the_same_slot_are_two_members() -> None:
    one = facts_of_pod("a-1", member="slot-0", pod=pod("a-1", kind="Deployment", workload_name="a"))
    two = facts_of_pod("b-1", member="slot-0", pod=pod("b-1", kind="Deployment", workload_name="b"))
    assert status_of(facts([one, two]), None)["summary"]["members"] == "2/2"


def test_pods_that_are_left_alone_are_not_members() -> None:
    status = status_of(facts([facts_of_pod(), PodFacts(pod("job-1", kind="Job"), ignored="Job")]), None)
    assert status["summary"]["members"] == "1/1"


def test_members_are_listed_worst_first_and_at_most_fifty() -> None:
    many = [facts_of_pod(f"web-{index}", age=index * SECOND / 10) for index in range(60)]
    never = PodFacts(pod("web-x"))
    late = facts_of_pod("web-y", age=30 * SECOND)
    rows = status_of(facts([*many, late, never]), None)["members"]
    assert len(rows) == MAX_MEMBERS
    assert [each["pod"] for each in rows[:3]] == ["web-x", "web-y", "web-59"]


def test_the_oldest_head_is_the_time_of_the_policy() -> None:
    status = status_of(facts([facts_of_pod(), facts_of_pod("web-1", age=9 * SECOND)]), None)
    assert status["lastSnapshotTime"] == "2026-05-04T11:59:51Z"


def test_the_measured_rpo_is_the_worst_gap_or_age() -> None:
    gap = status_of(facts([facts_of_pod(report=report(gap_ms=12_300))]), None)
    aged = status_of(facts([facts_of_pod(age=15 * SECOND)]), None)
    assert gap["summary"]["rpo"] == "12.3s"
    assert aged["summary"]["rpo"] == "15s"


def test_restored_counts_those_that_had_something_to_restore() -> None:
    pods = [facts_of_pod(f"web-{n}", report=report(restore=how)) for n, how in enumerate(["Restored", "StartedEmpty"])]
    assert status_of(facts([*pods, facts_of_pod("web-9")]), None)["summary"]["restored"] == "1/2"


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = status_of(facts(), None)
    later = NOW + timedelta(minutes=1)
    second = status_of(facts([facts_of_pod(age=40 * SECOND)], now=later), first)
    times = {each["type"]: each["lastTransitionTime"] for each in second["conditions"]}
    assert times["Accepted"] == "2026-05-04T12:00:00Z"
    assert times["Current"] == times["Ready"] == "2026-05-04T12:01:00Z"


def test_a_refused_policy_says_only_that() -> None:
    raw = parse_policy(policy_object(spec={"identity": "x", "source": None}))
    status = status_of(Facts(raw, AGENT, NOW), None)
    assert [each["type"] for each in status["conditions"]] == ["Accepted", "Ready"]
    assert "agent" not in status
    assert "spec.identity" in status["conditions"][0]["message"]


def test_long_texts_fit_the_schema() -> None:
    endless = Said("X" * 300, "y" * 9000)
    long_name = "n" * 253
    status = status_of(
        facts([facts_of_pod(long_name, report=report(message="z" * 5000), age=50 * SECOND)], warnings=(endless,)), None
    )
    for each in status["conditions"]:
        assert len(each["message"]) <= MAX_MESSAGE
        assert len(each["reason"]) <= 128
    assert len(status["members"][0]["message"]) <= MAX_MESSAGE
    assert json.dumps(status)


def test_the_agents_memory_holds_the_volume_and_grows_with_the_state() -> None:
    small, large = agent_of(policy(max_bytes=1 << 20), AGENT), agent_of(policy(max_bytes=1 << 30), AGENT)
    assert (small["memory"], small["stateSize"]) == ("58Mi", "4Mi")
    assert (large["memory"], large["stateSize"]) == ("17449Mi", "3073Mi")
    assert agent_of(policy(), AGENT) | {"memory": "", "stateSize": ""} == {
        "image": "example/agent:1",
        "imagePullPolicy": "IfNotPresent",
        "cluster": "cluster-1",
        "memory": "",
        "stateSize": "",
    }


# ------------------------------------------------------------------------------------------------------ when to write


def test_the_first_status_is_written_at_once() -> None:
    assert decide_write(None, status_of(facts(), None), last_written_at=None, now=NOW)


def test_a_change_of_a_condition_is_written_at_once() -> None:
    before = status_of(facts(), None)
    after = status_of(facts([facts_of_pod(age=40 * SECOND)]), before)
    assert decide_write(before, after, last_written_at=NOW, now=NOW + SECOND)


def test_a_new_reason_is_a_change_of_a_condition() -> None:
    before = status_of(facts([facts_of_pod(age=40 * SECOND)]), None)
    other = facts_of_pod(age=40 * SECOND, report=report(outcome=Outcome.NOT_READY))
    assert decide_write(before, status_of(facts([other]), before), last_written_at=NOW, now=NOW)


def test_a_new_generation_or_image_is_written_at_once() -> None:
    before = status_of(facts(), None)
    for after in (facts(policy=policy(generation=2)), facts(agent=replace(AGENT, image="example/agent:2"))):
        assert decide_write(before, status_of(after, before), last_written_at=NOW, now=NOW)


def test_growing_ages_are_written_at_the_pace_only() -> None:
    before = status_of(facts(), None)
    after = status_of(facts([facts_of_pod(age=9 * SECOND, head=head(8))]), before)
    assert not decide_write(before, after, last_written_at=NOW, now=NOW + PACE - SECOND)
    assert decide_write(before, after, last_written_at=NOW, now=NOW + PACE)


def test_nothing_new_is_never_written() -> None:
    before = status_of(facts(), None)
    assert not decide_write(before, status_of(facts(), before), last_written_at=None, now=NOW + timedelta(hours=1))


def test_only_what_changed_is_news_and_not_knowing_is_none() -> None:
    before = status_of(facts(), None)
    after = status_of(facts([facts_of_pod(age=40 * SECOND)]), before)
    assert {each["type"] for each in transitions(told_by(before), after)} == {"Current", "Ready"}
    assert transitions({}, status_of(facts([], store=StoreFacts()), None))[0]["type"] == "Accepted"
    assert transitions(told_by(before), before) == []


def test_what_was_true_before_we_did_not_know_is_no_news() -> None:
    well = status_of(facts(), None)
    told = told_by(well)
    told |= told_by(status_of(facts([]), well))
    assert transitions(told, well) == []
