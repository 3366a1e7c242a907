"""What holds for every test: where it belongs, and that nothing CI is there to prove is skipped in CI.

A test under ``tests/cluster`` needs the lab and is marked so by its place; nobody has to remember the mark.  With
``CI=true`` a skip is a failure that names what was missing: a suite that skips what it cannot do is green for nothing.
Fixtures live beside the tests that use them, not here.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

CLUSTER = Path(__file__).parent / "cluster"

# A slow shared machine is not a bug of the code under test; a run in CI tries the same examples each time.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies under tests/cluster."""
    for item in items:
        if CLUSTER in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI, keeping its reason."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        reason: Any = report.longrepr
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped, and CI skips nothing: {reason[-1] if reason else 'no reason given'}"
        )
    return report
