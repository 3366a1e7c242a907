"""What the cluster tests share: an API server of their own, for what the API server alone decides."""

from collections.abc import Iterator

import pytest
from tests.cluster.builders import pod
from tests.cluster.control_plane import REPOSITORY, Kubectl, Refused, api_server, wait_for


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """An API server of our own (no nodes, no operator) with the resource and the injection."""
    with api_server(tmp_path_factory.mktemp("control-plane")) as kubectl:
        kubectl("apply", "-k", str(REPOSITORY / "crds"))
        kubectl("wait", "--for=condition=Established", "crd/resonancesnapshots.resonance.dev", "--timeout=30s")
        kubectl("apply", "-k", str(REPOSITORY / "manifests/injection"))
        namespace = kubectl.namespace("warm")
        for _ in wait_for("the API server knows the resource", 60):
            try:
                kubectl.dry_run(pod(), namespace)
            except Refused:
                continue
            break
        yield kubectl
