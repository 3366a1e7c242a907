"""The lab with everything installed, once; a namespace for each test; and what to look at when a test fails."""

from collections.abc import Generator, Iterator

import pytest
from tests.cluster.live.installation import Installation
from tests.cluster.live.stage import Stage, staged
from tests.lab import Lab


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """The lab (started if it is not up) with operator, injection and the quickstart Redis."""
    lab = Lab()
    lab.up()
    installed = Installation(lab)
    installed.install()
    yield installed
    installed.close()


@pytest.fixture
def stage(installation: Installation) -> Iterator[Stage]:
    """A namespace of this test's own."""
    with staged(installation, "live") as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the stage of a test that failed, as it is now."""
    report = yield
    stages = [each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Stage)]
    if report.failed and call_reached(report):
        report.sections += [(f"namespace {stage.namespace}", stage.diagnosis()) for stage in stages]
    return report


def call_reached(report: pytest.TestReport) -> bool:
    """True: the failure is not of the teardown, when the stage is gone."""
    return report.when in ("setup", "call")
