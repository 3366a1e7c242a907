"""The daemons of the lab: started into its control group, remembered by process id and birth.

By name they are killed, paused, resumed and started again.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.failure import LabError
from tests.lab.layout import Layout

END_SECONDS = 10.0


@dataclass(frozen=True)
class Daemon:
    """What to run: a name that is unique in the lab, the command line, and the variables that it adds to a bare
    environment.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A daemon that was started.

    Its process id and birth (clock ticks since boot, so that a reused id is not taken for it).
    """

    daemon: Daemon
    pid: int
    birth: int

    def alive(self) -> bool:
        """True: this very process still runs (a paused one too)."""
        return birth_of(self.pid) == self.birth


def birth_of(pid: int) -> int | None:
    """Give the start time of a process in clock ticks since boot; None if there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def save(layout: Layout, record: Record) -> None:
    """Write the record so that it is there whole or not at all."""
    layout.processes.mkdir(parents=True, exist_ok=True)
    target = layout.processes / f"{record.daemon.name}.json"
    fresh = target.with_suffix(".new")
    daemon = {"name": record.daemon.name, "argv": record.daemon.argv, "environment": dict(record.daemon.environment)}
    fresh.write_text(json.dumps({"daemon": daemon, "pid": record.pid, "birth": record.birth}))
    fresh.rename(target)


def records(layout: Layout) -> dict[str, Record]:
    """Read every record, by name."""
    found: dict[str, Record] = {}
    for file in sorted(layout.processes.glob("*.json")) if layout.processes.is_dir() else ():
        value = json.loads(file.read_text())
        daemon = Daemon(value["daemon"]["name"], tuple(value["daemon"]["argv"]), value["daemon"]["environment"])
        found[daemon.name] = Record(daemon, value["pid"], value["birth"])
    return found


def record_of(layout: Layout, name: str) -> Record:
    """Give the record of a daemon; an unknown name is an error that lists the known ones."""
    known = records(layout)
    if name not in known:
        raise LabError(
            f"process: {name!r} is not of this lab. It has: "
            f"{', '.join(known) or 'none, as it is down; try `make lab`'}."
        )
    return known[name]


def start(layout: Layout, daemon: Daemon, group: Path) -> Record:
    """Start a daemon in the control group, its output appended to log/<name>.log.

    A daemon that runs already is left alone.
    """
    known = records(layout).get(daemon.name)
    if known is not None and known.alive():
        return known
    layout.logs.mkdir(parents=True, exist_ok=True)
    log = layout.logs / f"{daemon.name}.log"
    # The shell moves itself into the group, starts the daemon there, says its id and leaves: the daemon outlives this
    # program and is nobody's zombie.
    script = 'echo $$ > "$0" && log=$1 && shift && { "$@" < /dev/null >> "$log" 2>&1 & echo $!; }'
    started = subprocess.run(
        ["/bin/sh", "-c", script, str(group / "cgroup.procs"), str(log), *daemon.argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=dict(daemon.environment),
        cwd="/",
        start_new_session=True,
        check=False,
    )
    pid = int(started.stdout.strip() or 0)
    birth = birth_of(pid)
    if birth is None:
        raise LabError(f"{daemon.name} ended at once; {log} says why. {started.stderr.strip()}")
    record = Record(daemon, pid, birth)
    save(layout, record)
    return record


def send(layout: Layout, name: str, what: signal.Signals) -> None:
    """Send a signal to a daemon; one that is not alive is an error."""
    record = record_of(layout, name)
    if not record.alive():
        raise LabError(f"process: {name} does not run, so it cannot get {what.name}. `start {name}` brings it back.")
    os.kill(record.pid, what)


def kill(layout: Layout, name: str) -> None:
    """SIGKILL a daemon and wait until it is gone. One that is dead already stays dead."""
    record = record_of(layout, name)
    if record.alive():
        os.kill(record.pid, signal.SIGKILL)
    wait_until_dead([record.pid])


def wait_until_dead(pids: Sequence[int]) -> None:
    """Wait until none of these runs (reaping those that are children of ours)."""
    deadline = time.monotonic() + END_SECONDS
    while left := [pid for pid in pids if birth_of(pid) is not None]:
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {left} did not end within {END_SECONDS:.0f} s of SIGKILL. They hang in "
                "the kernel; only a reboot ends such."
            )
        time.sleep(0.02)
