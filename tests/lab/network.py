"""The wires of the lab, as lists of commands: one bridge, one cable per node, and the rules that cut a node off.

Pods hang on point-to-point cables (the CNI plugin `ptp`), not on a bridge: so each of their packets passes the node's
own forwarding, where services and cuts see it. On a bridge the answer of a neighbour would bypass the service's
address translation.
"""

from collections.abc import Sequence
from enum import StrEnum

from tests.lab.layout import ALL_NODES, API_PORT, BRIDGE, HOST, Node

TABLE = "resonance_lab_cut"
REDIS_PORTS = (6379, 6380)

Command = tuple[str, ...]


class Cut(StrEnum):
    """What a node can be cut off from."""

    APISERVER = "apiserver"
    REDIS = "redis"
    EVERYTHING = "everything"


def bridge_up() -> list[Command]:
    """Commands on the host: the bridge with the control plane's address."""
    return [
        ("ip", "link", "add", BRIDGE, "type", "bridge"),
        ("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE),
        ("ip", "link", "set", BRIDGE, "up"),
    ]


def cable_up(node: Node, pid: int) -> list[Command]:
    """Commands on the host.

    A cable from the bridge into the namespace of process `pid`, and the way to the node's pods.
    """
    return [
        ("ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)),
        ("ip", "link", "set", node.link, "master", BRIDGE, "up"),
        ("ip", "route", "replace", node.pods, "via", node.address),
    ]


def open_forwarding(filter_rules: str) -> list[Command]:
    """Commands on the host that let packets pass between the nodes, given the output of `iptables -S FORWARD`.

    Where Docker runs, the host drops what it forwards unless told otherwise, and that includes what a bridge carries.
    Everywhere else there is nothing to do.
    """
    if "-P FORWARD DROP" not in filter_rules:
        return []
    return [("iptables", "-I", "FORWARD", direction, BRIDGE, "-j", "ACCEPT") for direction in ("-i", "-o")]


def close_forwarding(filter_rules: str) -> list[Command]:
    """Commands on the host that take away each rule of `open_forwarding` that the same output shows."""
    words = [line.split() for line in filter_rules.splitlines()]
    return [("iptables", "-D", *line[1:]) for line in words if line[:1] == ["-A"] and BRIDGE in line]


def inside_up(node: Node, others: Sequence[Node]) -> list[Command]:
    """Commands inside the node: its address, the way out and the ways to the other nodes' pods."""
    return [
        ("ip", "link", "set", "lo", "up"),
        ("ip", "addr", "add", f"{node.address}/24", "dev", "eth0"),
        ("ip", "link", "set", "eth0", "up"),
        ("ip", "route", "add", "default", "via", HOST),
        *(("ip", "route", "add", other.pods, "via", other.address) for other in others if other != node),
        ("sysctl", "-qw", "net.ipv4.ip_forward=1"),
    ]


def links() -> list[str]:
    """Every link of the lab on the host, in the order in which to remove them (a cable takes its far end along)."""
    return [*(node.link for node in ALL_NODES), BRIDGE]


def cut_rules(node: Node, cut: Cut, addresses: Sequence[str] = ()) -> str:
    """Write the nftables chains of one cut, for `nft -f` inside the node.

    APISERVER stops every packet to and from the API server, the node's own and its pods'. REDIS stops what the node's
    pods exchange with the Redis ports of any address, which outlives a new pod address; or with exactly the given
    `address:port` pairs.
    """
    if cut is Cut.EVERYTHING:
        raise ValueError("a node is cut off from everything by its cable, not by rules")
    if cut is Cut.APISERVER:
        pairs = [(f"ip daddr {HOST} tcp dport {API_PORT}", f"ip saddr {HOST} tcp sport {API_PORT}")]
    elif addresses:
        pairs = [
            (
                f"ip saddr {node.pods} ip daddr {address} tcp dport {port}",
                f"ip daddr {node.pods} ip saddr {address} tcp sport {port}",
            )
            for address, _, port in (text.rpartition(":") for text in addresses)
        ]
    else:
        ports = ", ".join(map(str, REDIS_PORTS))
        pairs = [(f"ip saddr {node.pods} tcp dport {{ {ports} }}", f"ip daddr {node.pods} tcp sport {{ {ports} }}")]
    rules = "\n".join(f"    {there} drop\n    {back} drop" for there, back in pairs)
    chains = "\n".join(
        f"  chain {cut.value}_{hook} {{\n    type filter hook {hook} priority -10; policy accept;\n{rules}\n  }}"
        for hook in ("input", "output", "forward")
    )
    return f"table inet {TABLE} {{\n{chains}\n}}\n"


def uncut_command() -> Command:
    """Remove all rules of all cuts inside a node."""
    return ("nft", "delete", "table", "inet", TABLE)


def cable_command(node: Node, state: str) -> Command:
    """Take the node's cable out (`down`) or put it back (`up`), on the host."""
    return ("ip", "link", "set", node.link, state)
