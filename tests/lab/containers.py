"""The processes of a container, found through its node's containerd: that works while the API server is away, too."""

import os
import signal
from dataclasses import dataclass

from tests.lab import cgroups
from tests.lab.failure import LabError
from tests.lab.layout import ALL_NODES, Layout
from tests.lab.processes import birth_of
from tests.lab.progress import run

TASKS = "run/containerd/io.containerd.runtime.v2.task/k8s.io"


@dataclass(frozen=True)
class ContainerName:
    """Which container: namespace, pod, container, as in `kubectl logs -n NAMESPACE POD -c CONTAINER`."""

    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}/{self.container}"

    @classmethod
    def parse(cls, text: str) -> "ContainerName":
        """Read `namespace/pod/container`."""
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise LabError(f"container: {text!r} is not namespace/pod/container. Write it like default/web-0/app.")
        return cls(*parts)

    def filter(self) -> str:
        """The words by which containerd finds it."""
        labels = {"namespace": self.namespace, "pod.name": self.pod, "container.name": self.container}
        wanted = [
            f'labels."io.kubernetes.{"pod." if key == "namespace" else ""}{key}"=={value}'
            for key, value in labels.items()
        ]
        return ",".join(wanted)


def process_of(layout: Layout, name: ContainerName) -> int:
    """Give the process id, on the host, of the first process of a running container. Not running is an error.

    Try again when it is.
    """
    for node in ALL_NODES:
        ids = run(
            [
                layout.bin / "ctr",
                "-a",
                layout.containerd_socket(node),
                "-n",
                "k8s.io",
                "containers",
                "ls",
                "-q",
                name.filter(),
            ]
        ).split()
        for identity in ids:
            file = layout.node(node) / TASKS / identity / "init.pid"
            if file.is_file() and birth_of(pid := int(file.read_text())) is not None:
                return pid
    raise LabError(f"container {name}: does not run on any node now. `kubectl get pods -A` shows what does.")


def send(layout: Layout, name: ContainerName, what: signal.Signals) -> int:
    """Send a signal to every process of a container, its first one last; gives the first one's id."""
    first = process_of(layout, name)
    for pid in sorted(cgroups.siblings(first) - {first}):
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            continue
    os.kill(first, what)
    return first
