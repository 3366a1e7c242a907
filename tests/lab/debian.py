"""The Debian packages that the lab stands on, and the mirror that this machine already uses."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.lab.failure import LabError
from tests.lab.progress import Progress, attempt, run

PACKAGES: Mapping[str, str] = {  # a file or command that the package brings → the package
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "modprobe": "kmod",
    "/bin/busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "openssl": "openssl",
    "nsenter": "util-linux",
    "mount": "mount",
}
ADMIN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def present(thing: str) -> bool:
    """True: the command is on the path, or the file exists."""
    if thing.startswith("/"):
        return Path(thing).exists()
    return shutil.which(thing, path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}") is not None


def missing(has: Callable[[str], bool] = present) -> tuple[str, ...]:
    """Name the Debian packages of which this machine lacks the tool."""
    return tuple(sorted({package for thing, package in PACKAGES.items() if not has(thing)}))


def install(progress: Progress) -> None:
    """Install what is missing with apt-get; on a machine where that is impossible, say what to install by hand."""
    packages = missing()
    if not packages:
        return
    if os.geteuid() != 0 or not present("apt-get"):
        raise LabError(
            f"These Debian packages are missing: {' '.join(packages)}. Install them (or their like on "
            "your system), then try again."
        )
    with progress.step(f"installing Debian packages: {' '.join(packages)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        if not attempt(["apt-get", "install", "-y", "-q", "--no-install-recommends", "--dry-run", *packages]):
            run(["apt-get", "update", "-q"], environment=quiet)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], environment=quiet)
    still = missing()
    if still:
        raise LabError(
            f"apt-get was content, but these are still missing: {' '.join(still)}. Look at PATH, then try again."
        )


def require_root() -> None:
    """Namespaces, mounts and control groups need root."""
    if os.geteuid() != 0:
        raise LabError(
            "The lab makes network namespaces, mounts and control groups and so must run as root: `sudo make lab`."
        )


def parse_sources(texts: Iterable[str]) -> tuple[str, str]:
    """Find (mirror, suite) of the first plain Debian archive in the texts of apt's source files, of either format.

    Plain means: component `main`, a suite that is one word, no `-security` and no `-updates`.
    """
    for text in texts:
        for stanza in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^(\w[\w-]*):\s*(.+)$", stanza, re.MULTILINE))
            uri, suites = fields.get("URIs", "").split(), fields.get("Suites", "").split()
            if (
                uri
                and suites
                and "deb" in fields.get("Types", "").split()
                and "main" in fields.get("Components", "").split()
                and plain(suites[0])
            ):
                return uri[0], suites[0]
        for line in text.splitlines():
            match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", line.strip())
            if match and "main" in match[3].split() and plain(match[2]):
                return match[1], match[2]
    raise LabError(
        "apt's sources name no Debian archive with component main, so there is no mirror to make a base image from."
    )


def plain(suite: str) -> bool:
    """True: the suite is a release itself."""
    return re.fullmatch(r"[a-z]+", suite) is not None


def mirror() -> tuple[str, str]:
    """Give (mirror, suite) of this machine's own apt."""
    folder = Path("/etc/apt/sources.list.d")
    files = [
        folder / "debian.sources",
        Path("/etc/apt/sources.list"),
        *sorted(folder.glob("*.sources")),
        *sorted(folder.glob("*.list")),
    ]
    return parse_sources(file.read_text() for file in files if file.is_file())
