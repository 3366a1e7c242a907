"""`python3 -m tests.lab VERB …`: the lab from the command line. Data goes to standard output, talk to standard error.

Exit codes: 0 done, 1 failed, 2 usage; `status` gives 1 when the lab is not up and healthy.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab import build, daemons, teardown
from tests.lab.cluster import Lab
from tests.lab.failure import LabError
from tests.lab.images import REFERENCES
from tests.lab.layout import NODES, say
from tests.lab.network import Cut


def parser() -> argparse.ArgumentParser:
    """Describe the verbs."""
    top = argparse.ArgumentParser(
        prog="python3 -m tests.lab", description="A real Kubernetes of two nodes, without Docker."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("up", help="build once, start, wait until both nodes are Ready")
    verbs.add_parser("down", help="stop and leave nothing behind but the cache")
    verbs.add_parser("status", help="each daemon and its state; exit code 1 if the lab is not healthy")
    verbs.add_parser("env", help='shell lines: eval "$(python3 -m tests.lab env)"')
    verbs.add_parser("lock", help="write go.mod and go.sum for the versions in tests/lab/go/versions.toml")
    verbs.add_parser("leftovers", help="what of the lab is on this machine now; exit code 1 if anything")
    verbs.add_parser("wait", help="wait until the API server is ready, after `start apiserver` or `start etcd`")
    verbs.add_parser("volumes", help="make volumes whose claim is gone claimable again")
    images = verbs.add_parser("images", help="build images of this repository and load them into both nodes")
    images.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(REFERENCES)} (default: all)")
    load = verbs.add_parser("load", help="load an image archive into both nodes")
    load.add_argument("tar", type=Path)
    cut = verbs.add_parser("cut", help="cut a node off")
    cut.add_argument("node", choices=NODES)
    cut.add_argument("what", type=Cut, choices=list(Cut), metavar="|".join(Cut))
    cut.add_argument(
        "addresses",
        nargs="*",
        metavar="IP:PORT",
        help="with redis: only these (default: the Redis ports of every address)",
    )
    heal = verbs.add_parser("heal", help="undo every cut of a node")
    heal.add_argument("node", choices=NODES)
    what = f"{', '.join(daemons.names())}, or namespace/pod/container"
    for verb, text in (
        ("kill", "SIGKILL a daemon, or all processes of a container"),
        ("pause", "SIGSTOP it"),
        ("resume", "SIGCONT it"),
        ("start", "start a killed daemon again"),
        ("pid", "print the process id of a container's first process"),
    ):
        verbs.add_parser(verb, help=text).add_argument("what", metavar="WHAT", help=what)
    inside = verbs.add_parser(
        "inside", help="run a command in a node's namespaces, such as: inside node1 nft list ruleset"
    )
    inside.add_argument("node", choices=NODES)
    inside.add_argument("command", nargs=argparse.REMAINDER)
    return top


def perform(lab: Lab, given: argparse.Namespace) -> int:
    """Do one verb; gives the exit code."""
    match given.verb:
        case "images":
            for name, reference in lab.images(given.names).items():
                print(f"{name} {reference}")
        case "load":
            lab.load(given.tar)
        case "cut":
            lab.cut(given.node, given.what, given.addresses)
        case "heal":
            lab.heal(given.node)
        case "inside":
            print(lab.inside(given.node, *given.command), end="")
        case "pid":
            print(lab.pid(given.what))
        case "kill" | "pause" | "resume" | "start":
            getattr(lab, given.verb)(given.what)
        case _:
            return whole(lab, given.verb)
    return 0


def whole(lab: Lab, verb: str) -> int:
    """Do a verb that concerns the lab as a whole; gives the exit code."""
    match verb:
        case "status":
            for name, state in lab.status().items():
                print(f"{name:20} {state}")
            return 0 if lab.healthy() else 1
        case "env":
            for name, value in lab.environment().items():
                print(f"export {name}={shlex.quote(value)}")
        case "leftovers":
            found = teardown.leftovers(lab.layout)
            print("".join(f"{line}\n" for line in found), end="")
            return 1 if found else 0
        case "lock":
            build.lock(lab.layout, lab.progress)
        case "wait":
            lab.wait_until_ready()
        case "volumes":
            lab.recycle_volumes()
        case "up":
            lab.up()
        case "down":
            lab.down()
    return 0


def main(words: Sequence[str]) -> int:
    """Run the command line; gives the exit code."""
    given = parser().parse_args(words)
    try:
        return perform(Lab(), given)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted; `make lab-down` takes down what was started")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
