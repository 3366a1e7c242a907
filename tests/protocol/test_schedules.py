"""Every schedule that broke an earlier draft: it breaks without its rule, and holds with it.

Each test explores one scene twice: with the product, and with one rule taken out (rules.py). The shortest schedule that
breaks without the rule is what docs/protocol.md tells in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from resonance.model.claim import Host
from tests.protocol import scenes, taken_out
from tests.protocol.explore import Scene, search
from tests.protocol.faults import Fault
from tests.protocol.rules import PRODUCT, AfterConflict, EmptyStart, EpochMoves, Lineage, Newcomer, Released, Rules
from tests.protocol.world import World

WORLDS = 800
Mark = Callable[[Callable[..., None]], Callable[..., None]]


def rule(breaks: str, **without: object) -> Mark:
    """Run a test with the product and with a rule taken out, which must break the invariant named."""
    weak = replace(PRODUCT, **without)  # type: ignore[arg-type]
    without_it = pytest.param(weak, breaks, id=f"{breaks}-without-it")
    with_it = pytest.param(PRODUCT, None, id="holds-with-the-rule")
    return pytest.mark.parametrize(("rules", "breaks"), [with_it, without_it])


def explore(scene: Scene, rules: Rules, breaks: str | None, *, worlds: int = WORLDS) -> None:
    found, seen = search(scene, rules, worlds=worlds)
    if breaks is None:
        assert found is None, f"after {seen} worlds:\n{found}"
    else:
        assert found is not None, f"nothing breaks in {seen} worlds without the rule"
        assert found.invariant.startswith(breaks), str(found)


def one(budget: Mapping[str, int], **changes: object) -> Scene:
    return scenes.scene(scenes.running_pods(1, **changes), budget)  # type: ignore[arg-type]


@rule("I6", commit=taken_out.none_is_always_suspect)
def test_01_the_first_process_founds_the_line_and_goes_on_committing(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(scenes.first_deployment()), rules, breaks)


@rule("I3", commit=taken_out.owner_is_trusted)
def test_02_owning_the_head_does_not_let_an_empty_process_in(rules: Rules, breaks: str | None) -> None:
    explore(one({Fault.APP_IGNORES: 1}), rules, breaks)


@pytest.mark.parametrize("proof", ["of-its-line", "of-any-file"])
@rule("I", file_takes=taken_out.every_capture_touches_the_file)
def test_03_a_suspect_capture_never_touches_the_file(rules: Rules, breaks: str | None, proof: str) -> None:
    if proof == "of-any-file":
        rules = replace(rules, line_of=taken_out.any_file_is_a_proof)
    explore(one({Fault.APP_IGNORES: 1, Fault.APP_CRASH: 1}), rules, breaks)


@rule("I3", commit=taken_out.line_is_not_checked, lineage=Lineage.AT_THE_CAPTURE)
def test_04_the_line_is_checked_by_the_commit_itself(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(scenes.first_deployment(), {Fault.LOST_COMMIT: 1, Fault.APP_IGNORES: 1}), rules, breaks)


@rule("I2", commit=taken_out.accepted_commit_keeps_no_tip)
def test_05_an_accepted_state_keeps_the_head_as_a_tip(rules: Rules, breaks: str | None) -> None:
    explore(one({Fault.APP_IGNORES: 1, Fault.ACCEPT: 1}), rules, breaks)


@rule("I3", commit=taken_out.acceptance_lets_anyone_in, acceptance_after=taken_out.acceptance_stays)
def test_06_an_acceptance_names_one_process_and_works_once(rules: Rules, breaks: str | None) -> None:
    explore(one({Fault.APP_IGNORES: 2, Fault.ACCEPT: 1}), rules, breaks)


@rule("I1", commit=taken_out.duplicate_by_seq)
def test_07_a_duplicate_is_known_by_its_commit_and_not_by_its_number(rules: Rules, breaks: str | None) -> None:
    explore(one({Fault.LOST_COMMIT: 1}), rules, breaks)


def two_operators() -> World:
    world = scenes.running(World(), PRODUCT, host=Host.OPERATOR)
    return world.with_pod(0, replace(world.pods[0], second=world.pods[0].writer))


@rule("I2", after_conflict=AfterConflict.FORCE_THE_OLD)
def test_08_a_conflict_discards_the_capture(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(two_operators()), rules, breaks)


@rule("I6", claim=taken_out.takes_at_once, epoch_moves=EpochMoves.IN_THE_CLAIM)
def test_09_a_newcomer_that_never_starts_leaves_the_writer_alone(rules: Rules, breaks: str | None) -> None:
    explore(one({"bad image": 1}, template=1, surge=1), rules, breaks)


@rule("I6", claim=taken_out.no_second_claim)
def test_10_a_superseded_pod_that_is_wanted_again_commits_again(rules: Rules, breaks: str | None) -> None:
    paused = scenes.running_pods(1, template=1, surge=1, paused=True)
    explore(scenes.scene(paused, {Fault.ROLL_BACK: 1}, checks_unused=False), rules, breaks)


@rule("I8", claim=taken_out.parked_first)
def test_11_a_rollout_takes_over_the_held_slot_and_not_an_old_parked_one(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(scenes.scaled_down()), rules, breaks)


@rule("I8", is_gone=taken_out.gone_with_its_object, empty_start=EmptyStart.AFTER_A_BOUND)
def test_12_a_pod_on_a_lost_node_gives_its_slot_back_and_nobody_starts_empty(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(scenes.running_pods(1), {Fault.NODE_LOST: 1, Fault.BOUND: 1}, lost_stay=True), rules, breaks)


@rule("I6", claim=taken_out.claim_forgets)
def test_13_a_claim_whose_reply_was_lost_gives_the_same_slot_again(rules: Rules, breaks: str | None) -> None:
    explore(one({Fault.KILL: 1, Fault.LOST_CLAIM: 1}), rules, breaks)


def replaced_after_a_release_whose_reply_was_lost() -> World:
    budget: dict[str, int] = {Fault.KILL: 1, Fault.REPEATED_RELEASE: 1, Fault.SCALE_UP: 1}
    return scenes.played(
        scenes.scene(scenes.running_pods(1), budget).first,
        "p0 is killed", "the operator writes the policy record",
        "the operator sees that p0 is gone and will release slot-0",
        "the operator writes the release of slot-0 by p0, reply lost", "Kubernetes creates p1 of web",
        "p1 claims slot-0 (Take)", "p1 restores and starts", "p1 captures", "p1 commits its capture",
    )  # fmt: skip


@rule("I6", release=taken_out.release_whoever_holds, claim=taken_out.no_second_claim)
def test_14_a_late_release_leaves_the_newcomer_its_slot(rules: Rules, breaks: str | None) -> None:
    explore(Scene(replaced_after_a_release_whose_reply_was_lost()), rules, breaks)


@rule("I6", slots_seen=taken_out.leases_run_out, claim=taken_out.no_second_claim)
def test_15_no_lease_takes_a_slot_from_a_healthy_pod(rules: Rules, breaks: str | None) -> None:
    explore(one({Fault.LEASE_OVER: 1, Fault.SCALE_UP: 1}), rules, breaks)


@rule("I6", epoch_moves=EpochMoves.IN_A_SECOND_STEP)
def test_16_a_claim_is_one_step_and_nothing_of_it_comes_late(rules: Rules, breaks: str | None) -> None:
    killed = scenes.played(
        scenes.scene(scenes.running_pods(1), {Fault.KILL: 1, Fault.WRONG_RELEASE: 1, Fault.SCALE_UP: 1}).first,
        "p0 is killed", "the operator writes the policy record",
        "the operator sees that p0 is gone and will release slot-0",
        "the operator writes the release of slot-0 by p0", "Kubernetes creates p1 of web", "a person scales up",
        "the operator writes the policy record", rules=rules,
    )  # fmt: skip
    explore(Scene(killed, checks_unused=False), rules, breaks)


def takeover_lost_by_a_fail_over(rules: Rules, *more: str) -> World:
    budget: dict[str, int] = {Fault.KILL: 1, Fault.FAIL_OVER: 1, Fault.NODE_LOST: 1}
    return scenes.played(
        scenes.scene(scenes.running_pods(1), budget).first,
        "p0 is killed", "the Redis replica stops following", "the operator writes the policy record",
        "the operator sees that p0 is gone and will release slot-0", "the operator writes the release of slot-0 by p0",
        "Kubernetes creates p1 of web", "p1 claims slot-0 (Take)", "p1 restores and starts", "p1 captures",
        "p1 commits its capture", "Redis fails over to its replica", *more, rules=rules,
    )  # fmt: skip


@rule(
    "I6",
    commit=taken_out.fence_by_equality,
    epoch_moves=EpochMoves.IN_THE_CLAIM,
    claim=taken_out.takes_at_once_and_for_all,
)
def test_17_an_epoch_that_a_fail_over_lost_is_installed_again(rules: Rules, breaks: str | None) -> None:
    explore(Scene(takeover_lost_by_a_fail_over(rules), checks_unused=False), rules, breaks)


@rule("I4", commit=taken_out.fence_without_owner)
def test_18_an_epoch_issued_twice_has_one_writer(rules: Rules, breaks: str | None) -> None:
    world = takeover_lost_by_a_fail_over(
        rules, "the node of p1 is cut off", "Kubernetes creates p2 of web", "the operator writes the policy record",
        "the operator sees that p0 is gone and will release slot-0", "the operator writes the release of slot-0 by p0",
        "p2 claims slot-0 (Take)", "p2 restores and starts",
    )  # fmt: skip
    explore(Scene(world, captures=8, lost_stay=True, checks_unused=False), rules, breaks)


@rule("I6", newcomer=Newcomer.WAITS_FOR_EVER)
def test_19_a_rollout_of_an_adopted_pod_waits_for_no_agent(rules: Rules, breaks: str | None) -> None:
    adopted = replace(scenes.running(World(), PRODUCT, host=Host.OPERATOR), template=1, surge=1)
    explore(scenes.scene(adopted), rules, breaks)


@rule("I5", key_of=taken_out.one_key_space)
def test_20_workloads_of_one_policy_never_share_a_slot(rules: Rules, breaks: str | None) -> None:
    world = scenes.running(scenes.running(World(), rules), rules, workload="web-canary")
    killed = replace(world, budget={Fault.KILL: 2})
    explore(Scene(killed, captures=2), rules, breaks, worlds=2 * WORLDS)


@rule("I6", released=Released.IS_REASSERTED)
def test_21_a_released_pod_does_not_write_itself_back(rules: Rules, breaks: str | None) -> None:
    explore(scenes.scene(scenes.running_pods(1), {Fault.NODE_LOST: 1}, lost_stay=True), rules, breaks)
