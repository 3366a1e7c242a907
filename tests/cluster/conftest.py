"""What the cluster tests share: the lab for what needs nodes, an API server of their own for what does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import REPOSITORY, Kubectl, api_server


@pytest.fixture(scope="session")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """An API server of our own (no nodes, no operator) on which nothing of ours is installed."""
    folder: Path = tmp_path_factory.mktemp("control-plane")
    with api_server(folder) as kubectl:
        yield kubectl


@pytest.fixture(scope="session")
def server(bare_server: Kubectl) -> Kubectl:
    """The same server with the resource and the injection."""
    for folder in ("crds", "manifests/injection"):
        bare_server("apply", "-k", str(REPOSITORY / folder))
    bare_server("wait", "--for=condition=Established", "crd/resonancesnapshots.resonance.dev", "--timeout=30s")
    return bare_server
