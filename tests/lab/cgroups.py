"""The control group tree `resonance-lab`.

Everything that the lab ever started is in it, so everything can be found and ended.

On cgroup v1 each controller is a tree of its own; the daemons of the lab sit in `resonance-lab/daemons` of the first
one, and what they start is born there too. The kubelets make their pods' groups under `resonance-lab/<node>`
(`cgroupRoot`).

The machines that run this project's tests have v1; v2 is written to the kernel's documentation and has not been run.
"""

import errno
import os
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from tests.lab.failure import LabError
from tests.lab.layout import ALL_NODES, GROUP

ROOT = Path("/sys/fs/cgroup")
DAEMONS = "daemons"
KILL_SECONDS = 20.0


class Version(StrEnum):
    """Which of the two kinds of control groups this machine has."""

    V1 = "v1"
    V2 = "v2"


def version(root: Path = ROOT) -> Version:
    """A v2 machine has one tree with a list of controllers in its root."""
    return Version.V2 if (root / "cgroup.controllers").is_file() else Version.V1


def trees(root: Path = ROOT) -> tuple[Path, ...]:
    """Give the root of each tree: one on v2.

    On v1 one per controller (symbolic links such as cpu,cpuacct counted once).
    """
    if version(root) is Version.V2:
        return (root,)
    found = {path.resolve() for path in root.iterdir() if path.is_dir() and (path / "cgroup.procs").is_file()}
    return tuple(sorted(found))


def home_of_daemons(root: Path = ROOT) -> Path:
    """The group that a daemon of the lab enters before it becomes the program that it is to run."""
    named = [tree for tree in trees(root) if tree.name == "pids"]
    return (named or list(trees(root)))[0] / GROUP / DAEMONS


def prepare(root: Path = ROOT) -> None:
    """Make the groups; on v1 fill in cpuset (a new group has no processor), on v2 hand the controllers down."""
    if not trees(root):
        raise LabError(
            f"{root}: no control groups are mounted here. Mount cgroup2 there, or run the lab on the host itself."
        )
    for tree in trees(root):
        groups = [tree / GROUP, *(tree / GROUP / node.name for node in ALL_NODES)]
        for group in groups:
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if version(root) is Version.V1 and (group / name).is_file():
                    (group / name).write_text((group.parent / name).read_text())
        if version(root) is Version.V2:
            for group in (tree, *groups):
                offered = (group / "cgroup.controllers").read_text().split()
                (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in offered))
    home_of_daemons(root).mkdir(exist_ok=True)


def groups_of_lab(root: Path = ROOT) -> tuple[Path, ...]:
    """Give every group of the lab in every tree, deepest first."""
    found: list[Path] = []
    for tree in trees(root) if root.is_dir() else ():
        found += [Path(folder) for folder, _, _ in os.walk(tree / GROUP)]
    return tuple(sorted(found, key=lambda path: len(path.parts), reverse=True))


def members(groups: Iterable[Path]) -> frozenset[int]:
    """Give the process ids in these groups; a group that vanishes meanwhile is empty."""
    found: set[int] = set()
    for group in groups:
        try:
            found |= {int(line) for line in (group / "cgroup.procs").read_text().split()}
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV}:
                raise
    return frozenset(found - {0})


def siblings(pid: int) -> frozenset[int]:
    """Give every process of the container that `pid` belongs to: those that share its group."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        tree = ROOT / controllers.split(",")[0] if controllers else ROOT
        if f"/{GROUP}/" in path and (tree / path.lstrip("/")).is_dir():
            return members([tree / path.lstrip("/")]) | {pid}
    return frozenset({pid})


def remove(root: Path = ROOT) -> None:
    """Remove the emptied tree; a group whose last process is still being buried is tried again for a while."""
    deadline = time.monotonic() + KILL_SECONDS
    while groups := groups_of_lab(root):
        for group in groups:
            try:
                group.rmdir()
            except OSError as error:
                if error.errno not in {errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY}:
                    raise
        if time.monotonic() > deadline:
            left = groups_of_lab(root)
            if left:
                raise LabError(
                    f"{left[0]}: still busy after {KILL_SECONDS:.0f} s, with processes "
                    f"{sorted(members(left))}. End them, then `make lab-down`."
                )
        time.sleep(0.05)
