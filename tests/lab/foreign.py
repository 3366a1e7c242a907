"""A cluster that the user has: kind with Docker, or a context named on purpose.

The same interface as the lab, without faults.

Written to the documented commands of docker, kind and kubectl and **not run by the tests of this project**: its
machines have neither a Docker daemon nor a cluster of their own. A context is never taken without being named, and
`down` leaves the user's cluster alone.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.lab import images
from tests.lab.cluster import Cluster, Lab
from tests.lab.failure import LabError
from tests.lab.layout import REPOSITORY
from tests.lab.progress import Progress, run

KIND_CLUSTER = "resonance"


class Kind(StrEnum):
    """Which cluster: the value of CLUSTER."""

    LAB = "lab"
    KIND = "kind"
    CURRENT = "current"


@dataclass(frozen=True)
class ForeignCluster:
    """A cluster reached through a context of the user's kubeconfig."""

    kind: Kind
    context: str

    @property
    def kubeconfig(self) -> Path:
        return Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")

    def environment(self) -> Mapping[str, str]:
        """Nothing to add: kubectl is the user's own; name the context with `--context`."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """Run the user's kubectl in the named context and give its output."""
        return run(["kubectl", f"--context={self.context}", *words], text=text)

    def up(self) -> None:
        """Make the kind cluster if it is missing; only look whether a named context answers."""
        if self.kind is Kind.KIND and KIND_CLUSTER not in run(["kind", "get", "clusters"]).split():
            run(["kind", "create", "cluster", "--name", KIND_CLUSTER, "--wait", "120s"])
        self.kubectl("get", "--raw", "/readyz")

    def down(self) -> None:
        """Delete the kind cluster that `up` made; a named context is left alone."""
        if self.kind is Kind.KIND:
            run(["kind", "delete", "cluster", "--name", KIND_CLUSTER])

    def images(self, names: Sequence[str] = ()) -> Mapping[str, str]:
        """Build with docker and load into kind. A named context is given the references only.

        Its nodes must be able to pull them.
        """
        wanted = images.chosen(names)
        if self.kind is Kind.KIND:
            for image in wanted:
                target = ("--target", image.target) if image.target else ()
                run(
                    ["docker", "build", "-q", "-f", image.dockerfile, "-t", image.reference, *target, "."],
                    cwd=REPOSITORY,
                )
                run(["kind", "load", "docker-image", "--name", KIND_CLUSTER, image.reference])
        return {image.name: image.reference for image in wanted}


def open_cluster(environ: Mapping[str, str] = os.environ, progress: Progress | None = None) -> Cluster:
    """Give the cluster that CLUSTER asks for: `lab` (default), `kind`, or `current` together with CONTEXT=name."""
    asked = environ.get("CLUSTER") or Kind.LAB
    if asked not in set(Kind):
        raise LabError(f"CLUSTER: {asked!r} is not one of {', '.join(Kind)}. Leave it out for the lab.")
    match Kind(asked):
        case Kind.LAB:
            return Lab(progress=progress)
        case Kind.KIND:
            for command in ("docker", "kind", "kubectl"):
                if shutil.which(command) is None:
                    raise LabError(
                        f"CLUSTER=kind needs {command}, which is not on the path. Install it, or "
                        "leave CLUSTER out for the lab."
                    )
            return ForeignCluster(Kind.KIND, f"kind-{KIND_CLUSTER}")
        case Kind.CURRENT:
            context = environ.get("CONTEXT", "")
            if not context:
                raise LabError(
                    "CLUSTER=current: no context is taken without being named. Add CONTEXT=name; "
                    "`kubectl config get-contexts` lists them."
                )
            return ForeignCluster(Kind.CURRENT, context)
