"""Where things are: every name, address and path of the lab, in one frozen value.

Names and addresses are constants because they must be found again after a crash by a process that knows nothing else.
One lab per machine.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.failure import LabError

GROUP = "resonance-lab"  # the control group under which every process of the lab lives
BRIDGE = "rlab0"
HOST = "10.99.0.1"  # the bridge's address: API server and DNS listen here
API_PORT = 6443
ETCD_PORT, ETCD_PEER_PORT = 12379, 12380
SERVICES = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
CONTEXT = "resonance-lab"
NODES = ("node1", "node2")
PORTS = (ETCD_PORT, ETCD_PEER_PORT, API_PORT, 10257, 10259)  # what the lab listens on in the host's own namespace
REPOSITORY = Path(__file__).resolve().parents[2]
SOCKET_LIMIT = 107  # bytes in the path of a unix socket, unix(7)


@dataclass(frozen=True)
class Node:
    """One node: its name and what follows from its number (1, 2, …)."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"10.99.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def link(self) -> str:
        """The host's end of the cable into the node's network namespace."""
        return f"rlab-veth{self.number}"


ALL_NODES = tuple(Node(index + 1) for index in range(len(NODES)))


def node_named(name: str) -> Node:
    """Give the node of that name; a name that does not exist is an error that lists those that do."""
    for node in ALL_NODES:
        if node.name == name:
            return node
    raise LabError(f"node: {name!r} does not exist. The lab has {', '.join(NODES)}.")


@dataclass(frozen=True)
class Layout:
    """The two folders of the lab: `cache` outlives it (programs, images), `state` is removed by `down`."""

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Layout":
        """Read XDG_CACHE_HOME, HOME and RESONANCE_LAB_STATE.

        Refuses a state folder inside the checkout or too long for unix sockets.
        """
        home = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "/root") / ".cache")
        cache = home / "resonance-lab"
        state = Path(environ.get("RESONANCE_LAB_STATE") or cache / "state")
        if state.resolve().is_relative_to(REPOSITORY):
            raise LabError(f"RESONANCE_LAB_STATE: {state} is inside the checkout. Name a folder outside of it.")
        longest = f"{state}/node1/kubelet/device-plugins/kubelet.sock"
        if len(longest.encode()) > SOCKET_LIMIT:
            raise LabError(
                f"RESONANCE_LAB_STATE: {state} is too long for unix sockets ({longest}). Name a "
                "shorter folder, such as /var/tmp/rlab."
            )
        return cls(cache, state)

    @property
    def kubeconfig(self) -> Path:
        return self.state / "admin.conf"

    @property
    def audit_log(self) -> Path:
        return self.state / "audit" / "audit.log"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def processes(self) -> Path:
        return self.state / "process"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def bin(self) -> Path:
        return self.state / "bin"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    def node(self, node: Node) -> Path:
        return self.state / node.name

    def containerd_socket(self, node: Node) -> Path:
        return self.node(node) / "run" / "containerd.sock"


def say(line: str) -> None:
    """Talk to the person at the terminal (standard error, so that standard output stays data)."""
    print(line, file=sys.stderr, flush=True)
