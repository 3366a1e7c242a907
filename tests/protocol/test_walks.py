"""Long random schedules: whatever happens in whatever order, no invariant breaks.

Every walk has a seed; a failure prints the schedule, shortened as far as it still breaks, so that it can be read.
"""

from __future__ import annotations

import random

import pytest

from tests.protocol import taken_out
from tests.protocol.explore import Found, walk
from tests.protocol.rules import PRODUCT, Rules
from tests.protocol.scenes import random_scene

BATCHES = 20
STEPS_OF_A_BATCH = 6_000
STEPS_OF_A_WALK = 60


def walks(rules: Rules, batch: int, steps: int) -> tuple[Found | None, int]:
    """Walks with seeds of their own until ``steps`` are made or something breaks."""
    made, seed = 0, batch * 10_000
    while made < steps:
        seed += 1
        found, done = walk(random_scene(random.Random(seed)), rules, seed=seed, steps=STEPS_OF_A_WALK)
        made += done
        if found is not None:
            return found, made
    return None, made


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_random_schedule_breaks_an_invariant(batch: int) -> None:
    found, made = walks(PRODUCT, batch, STEPS_OF_A_BATCH)
    assert found is None, f"batch {batch}:\n{found}"
    assert made >= STEPS_OF_A_BATCH


def test_all_batches_together_make_a_hundred_thousand_steps() -> None:
    assert BATCHES * STEPS_OF_A_BATCH >= 100_000


@pytest.mark.parametrize(
    "without",
    [
        pytest.param(Rules(commit=taken_out.owner_is_trusted), id="lineage"),
        pytest.param(Rules(commit=taken_out.duplicate_by_seq), id="duplicate-by-commit"),
        pytest.param(Rules(claim=taken_out.no_second_claim), id="second-claim"),
        pytest.param(Rules(is_gone=taken_out.gone_with_its_object), id="lost-node"),
    ],
)
def test_the_walks_would_notice_a_missing_rule(without: Rules) -> None:
    found, _ = walks(without, BATCHES, 60_000)
    assert found is not None
