"""Taking the lab down, from any state, with no memory of how it came up.

What there can be is known by name: a control group tree, links, a state folder, a few kernel settings. Each step
looks at what is there and takes that away; a step that finds nothing does nothing. So `down` is the same after a good
day, after a crash of the lab, and when it runs twice.
"""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.lab import cgroups
from tests.lab.daemons import PRIVATE_FOLDERS
from tests.lab.failure import LabError
from tests.lab.layout import PORTS, Layout
from tests.lab.network import close_forwarding, links
from tests.lab.processes import records, wait_until_dead
from tests.lab.progress import attempt, run

KERNEL_SETTINGS = (  # what the lab or a kubelet changes on the host
    "net.ipv4.ip_forward",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)
SETTINGS_FILE = "kernel-settings.json"
DEADLINE_SECONDS = 20.0


def setting_path(name: str) -> Path:
    """Where the kernel shows a setting."""
    return Path("/proc/sys") / name.replace(".", "/")


def remember_settings(layout: Layout, made_folders: Iterable[str]) -> None:
    """Write down the host's settings, and which mount points were made, before the lab changes anything."""
    settings = {
        name: setting_path(name).read_text().strip() for name in KERNEL_SETTINGS if setting_path(name).is_file()
    }
    (layout.state / SETTINGS_FILE).write_text(json.dumps({"settings": settings, "folders": list(made_folders)}))


def remembered(layout: Layout) -> tuple[Mapping[str, str], Sequence[str]]:
    """Read (settings, folders made) back; empty where nothing, or half a file, was written."""
    try:
        value = json.loads((layout.state / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return {}, ()
    return value["settings"], value["folders"]


def kill_all(layout: Layout) -> None:
    """SIGKILL every process of the lab until there is none: daemons first, so that nobody starts anything anew."""
    for record in records(layout).values():
        if record.alive():
            os.kill(record.pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while pids := cgroups.members(cgroups.groups_of_lab()) - {os.getpid()}:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {sorted(pids)} survive SIGKILL for {DEADLINE_SECONDS:.0f} s: they hang in "
                "the kernel. Reboot, then `make lab`."
            )
        time.sleep(0.02)
    wait_until_dead([record.pid for record in records(layout).values() if record.alive()])


def forward_rules() -> str:
    """Show the host's filter rules for forwarding; empty where there is no iptables (or no right to look)."""
    listed = ["iptables", "-S", "FORWARD"]
    return run(listed) if attempt(listed) else ""


def remove_links() -> None:
    """Remove cables before the bridge; what hangs on them (routes, addresses, the far ends) goes along."""
    for command in close_forwarding(forward_rules()):
        attempt(command)
    for link in links():
        if Path(f"/sys/class/net/{link}").exists():
            attempt(["ip", "link", "del", link])


def mounts_under(folder: Path, table: str) -> list[str]:
    """List the mount points at or below `folder` in the text of /proc/mounts, deepest first."""
    prefix = f"{folder}/"
    points = [line.split()[1].encode().decode("unicode_escape") for line in table.splitlines()]
    return sorted((point for point in points if point.startswith(prefix) or point == str(folder)), reverse=True)


def remove_mounts(layout: Layout) -> None:
    """Unmount what is left under the state folder on the host (the nodes' own mounts ended with their namespaces)."""
    for point in mounts_under(layout.state, Path("/proc/mounts").read_text()):
        attempt(["umount", "--lazy", point])


def restore_host(layout: Layout) -> None:
    """Set the kernel's settings back and remove the mount points that `up` made, if they are still empty."""
    settings, folders = remembered(layout)
    for name, value in settings.items():
        if setting_path(name).read_text().strip() != value:
            run(["sysctl", "-qw", f"{name}={value}"])
    for folder in folders:
        if folder in PRIVATE_FOLDERS and Path(folder).is_dir() and not any(Path(folder).iterdir()):
            Path(folder).rmdir()


def remove_folder(folder: Path) -> None:
    """Remove the state folder; mounts of a namespace that is being buried can hold it for a moment."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists() and time.monotonic() > deadline:
            shutil.rmtree(folder)
        time.sleep(0.02)


def wait_for_ports(ports: Iterable[int] = PORTS) -> None:
    """Wait until nobody listens on the lab's ports: the next start would hang on them."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    for port in ports:
        while listening(port):
            if time.monotonic() > deadline:
                raise LabError(
                    f"port {port}: something that is not the lab listens there. End it (`ss -ltnp "
                    f"'sport = :{port}'`), then try again."
                )
            time.sleep(0.05)


def listening(port: int) -> bool:
    """True: a connection to this port of this machine is taken."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def down(layout: Layout) -> None:
    """Leave nothing behind but the cache."""
    kill_all(layout)
    remove_links()
    remove_mounts(layout)
    cgroups.remove()
    restore_host(layout)
    remove_folder(layout.state)
    wait_for_ports()


def leftovers(layout: Layout) -> list[str]:
    """Name everything of the lab that this machine still has; empty after `down`."""
    groups = cgroups.groups_of_lab()
    found = [f"process {pid}" for pid in sorted(cgroups.members(groups))]
    found += [f"control group {group}" for group in groups]
    found += [f"link {link}" for link in links() if Path(f"/sys/class/net/{link}").exists()]
    found += [f"rule {' '.join(command[2:])}" for command in close_forwarding(forward_rules())]
    found += [f"mount {point}" for point in mounts_under(layout.state, Path("/proc/mounts").read_text())]
    found += [f"folder {layout.state}"] if layout.state.exists() else []
    found += [f"port {port}" for port in PORTS if listening(port)]
    return found
