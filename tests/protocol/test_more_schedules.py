"""Schedules that the exploration of this world found itself, each with the rule that prevents it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.protocol import scenes, taken_out
from tests.protocol.explore import Scene
from tests.protocol.faults import Fault
from tests.protocol.rules import Leaving, Listing, Records, Rules
from tests.protocol.test_schedules import explore, rule, two_operators
from tests.protocol.world import Store, World

LISTS = "the operator writes the policy record"


def told(budget: Mapping[str, int], world: World, *schedule: str, rules: Rules, unused: bool = True) -> Scene:
    """What stands after a schedule; explored from there."""
    after = scenes.played(replace(world, budget=dict(budget)), *schedule, rules=rules)
    return Scene(after, captures=after.captures + 4, checks_unused=unused, lost_stay=Fault.NODE_LOST in budget)


def sees(uid: str, member: str) -> str:
    return f"the operator sees that {uid} is gone and will release {member}"


def releases(uid: str, member: str) -> str:
    return f"the operator writes the release of {member} by {uid}"


def starts(uid: str, member: str, how: str = "Take") -> tuple[str, ...]:
    return (f"{uid} claims {member} ({how})", f"{uid} restores and starts")


def commits(uid: str) -> tuple[str, ...]:
    return (f"{uid} captures", f"{uid} commits its capture")


@rule("I8", claim=taken_out.founds_whenever_there_is_room)
def test_22_a_superseded_pod_founds_nothing_in_the_place_of_a_parked_state(rules: Rules, breaks: str | None) -> None:
    rollout = scenes.running_pods(2, template=1, surge=1)
    schedule = (
        "Kubernetes creates p2 of web", *starts("p2", "slot-0", "Reserve"), *commits("p2"),
        "Kubernetes deletes p1", "p1 flushes, releases and ends",
    )  # fmt: skip
    explore(told({}, rollout, *schedule, rules=rules), rules, breaks, worlds=600)


def fail_over_to_a_replica_without_records() -> World:
    world = scenes.running_pods(2)
    behind = {key: Store(wanted=store.wanted, listed=store.listed) for key, store in world.stores.items()}
    return replace(world, replica=behind)


@rule("I6", claim=taken_out.lost_record_is_forgotten)
def test_23_two_pods_whose_records_were_lost_never_swap_members(rules: Rules, breaks: str | None) -> None:
    world = fail_over_to_a_replica_without_records()
    schedule = ("Redis fails over to its replica", *commits("p0"))
    explore(told({Fault.FAIL_OVER: 1}, world, *schedule, rules=rules, unused=False), rules, breaks, worlds=600)


@rule("I2", records=Records.AFTER_THE_STATE)
def test_24_the_records_are_read_before_the_state(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(two_operators()), rules, breaks, worlds=600)


@rule("I8", listing=Listing.WHENEVER)
def test_25_a_pod_is_taken_off_the_list_before_its_slot_is_released(rules: Rules, breaks: str | None) -> None:
    first = (LISTS,) if rules.listing is Listing.BEFORE_THE_RELEASE else ()
    schedule = (
        "the node of p0 is cut off", "the node of p1 is cut off", "Kubernetes creates p2 of web",
        sees("p0", "slot-0"), sees("p1", "slot-1"), *first, releases("p1", "slot-1"), "p2 claims slot-1 (Take)",
        releases("p0", "slot-0"),
    )  # fmt: skip
    explore(told({Fault.NODE_LOST: 2}, scenes.running_pods(2), *schedule, rules=rules), rules, breaks, worlds=600)


@rule("I8", claim=taken_out.last_released_first)
def test_26_a_parked_slot_with_a_snapshot_comes_before_one_without(rules: Rules, breaks: str | None) -> None:
    schedule = (
        "a person scales up", LISTS, "Kubernetes creates p1 of web", "p1 claims slot-1 (Take)", "p0 is killed",
        "p1 is killed", LISTS, sees("p0", "slot-0"), releases("p0", "slot-0"), sees("p1", "slot-1"),
        releases("p1", "slot-1"), "a person scales down", LISTS,
    )  # fmt: skip
    budget: dict[str, int] = {Fault.KILL: 2, Fault.SCALE_UP: 1, Fault.SCALE_DOWN: 1}
    explore(told(budget, scenes.running_pods(1), *schedule, rules=rules), rules, breaks, worlds=600)


@rule("I6", commit=taken_out.reservation_stays)
def test_27_a_reservation_below_the_installed_epoch_goes(rules: Rules, breaks: str | None) -> None:
    rollout = scenes.running_pods(2, template=1, surge=1)
    rollout = replace(rollout, replica=rollout.stores)
    schedule = (
        "the operator wrongly releases slot-0", "p0 claims anew", "Kubernetes creates p2 of web",
        *starts("p2", "slot-0", "Reserve"), "Redis fails over to its replica", "Kubernetes deletes p0",
        "Kubernetes creates p3 of web", *starts("p3", "slot-0", "Reserve"), "p2 captures", "p2 commits its capture",
    )  # fmt: skip
    budget: dict[str, int] = {Fault.WRONG_RELEASE: 1, Fault.FAIL_OVER: 1}
    explore(told(budget, rollout, *schedule, rules=rules, unused=False), rules, breaks, worlds=600)


@rule("I8", leaving=Leaving.TAKES_OVER)
def test_28_a_newcomer_that_ends_before_its_first_commit_takes_nothing_over(rules: Rules, breaks: str | None) -> None:
    rollout = scenes.running_pods(3, template=1)
    schedule = (
        "p1 is killed", "Kubernetes creates p3 of web", *starts("p3", "slot-0", "Reserve"),
        "a person undoes the roll-out", LISTS, "Kubernetes deletes p3", sees("p1", "slot-1"),
        releases("p1", "slot-1"), "p3 flushes, releases and ends",
    )  # fmt: skip
    budget: dict[str, int] = {Fault.KILL: 1, Fault.ROLL_BACK: 1}
    explore(told(budget, rollout, *schedule, rules=rules), rules, breaks, worlds=600)


@rule("I6", claim=taken_out.founds_over_a_head)
def test_29_a_founding_pod_keeps_away_from_a_head_whose_record_was_lost(rules: Rules, breaks: str | None) -> None:
    world = scenes.running_pods(1)
    world = replace(world, replica=world.stores)
    schedule = (
        "a person scales up", LISTS, "Kubernetes creates p1 of web", *starts("p1", "slot-1"),
        "Redis fails over to its replica", *commits("p1"), "the operator wrongly releases slot-0", LISTS,
    )  # fmt: skip
    budget: dict[str, int] = {Fault.SCALE_UP: 2, Fault.FAIL_OVER: 1, Fault.WRONG_RELEASE: 1}
    explore(told(budget, world, *schedule, rules=rules, unused=False), rules, breaks, worlds=800)


@rule("I6", claim=taken_out.record_is_left_as_healed)
def test_30_a_healed_record_is_put_right_by_its_holder(rules: Rules, breaks: str | None) -> None:
    rollout = scenes.running_pods(3, template=1, surge=1)
    rollout = replace(rollout, replica=rollout.stores)
    schedule = (
        "the node of p2 is cut off", "Kubernetes creates p3 of web", "Kubernetes creates p4 of web",
        *starts("p3", "slot-0", "Reserve"), *starts("p4", "slot-1", "Reserve"), "Redis fails over to its replica",
        "Kubernetes deletes p0", "Kubernetes creates p5 of web", "p5 claims slot-0 (Reserve)",
    )  # fmt: skip
    budget: dict[str, int] = {Fault.NODE_LOST: 1, Fault.FAIL_OVER: 1}
    scene = replace(told(budget, rollout, *schedule, rules=rules, unused=False), lost_stay=False)
    explore(scene, rules, breaks, worlds=200)
