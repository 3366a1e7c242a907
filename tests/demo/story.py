"""The story: steps as data. A step says what it shows, acts and gathers evidence, and judges the evidence purely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.demo.faults import delete_operator, delete_pod, kill_process, killed_and_back, of_comebacks, went_on
from tests.demo.members import EDGE_0, WEB_0
from tests.demo.proof import Proof
from tests.demo.protection import (
    POLICY_KIND,
    adopted_as_they_ran,
    apply_policy,
    injected_and_back,
    none_has_an_agent,
    roll_out,
    start_sample,
)
from tests.demo.reach import POLICY
from tests.demo.stage import Stage


@dataclass(frozen=True)
class Step:
    """One part of the story. ``proofs`` judges what ``act`` gathered and sees nothing else."""

    title: str
    tells: str
    act: Callable[[Stage], Any]
    proofs: Callable[[Any], Sequence[Proof]]


STORY = (
    Step(
        "Three apps, unprotected",
        "Two pods of a StatefulSet and one of a Deployment keep a resonance network in memory, nowhere else.",
        start_sample,
        none_has_an_agent,
    ),
    Step(
        "One policy protects them as they run",
        f"`kubectl apply` of {POLICY_KIND} {POLICY}: the operator snapshots the running pods from outside. No restart.",
        apply_policy,
        adopted_as_they_ran,
    ),
    Step(
        "A roll-out brings the agent",
        "From now on every pod restores before its app starts, and is snapshotted from inside.",
        roll_out,
        injected_and_back,
    ),
    Step(
        "A pod of the StatefulSet is deleted",
        "The app changes, and at once its pod is deleted: the last words must not be lost.",
        lambda stage: delete_pod(stage, WEB_0),
        of_comebacks,
    ),
    Step(
        "The app's process is killed in place",
        "No shutdown, no last words: the container restarts in the same pod, with its newest snapshot.",
        kill_process,
        killed_and_back,
    ),
    Step(
        "The Deployment's pod is deleted",
        "The new pod has another name; its member is the slot that the old one leaves.",
        lambda stage: delete_pod(stage, EDGE_0),
        of_comebacks,
    ),
    Step(
        "The operator is gone",
        "Snapshots, injection and restores go on without it: one pod is even deleted meanwhile.",
        delete_operator,
        went_on,
    ),
)
