"""A process that does nothing but save one app's state again and again, for measuring its memory.

Arguments: the keys of a Secret as JSON, the app's address, the largest export in bytes. Each line on standard input is
a number of turns to make; the answer is one line: resident KiB now, and the highest ever.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from resonance.engine.session import Given, Now, Session
from resonance.model.claim import Claimant, Identity
from resonance.model.report import GOOD, Outcome, Report
from resonance.source import HttpSource
from resonance.store.connection import read_settings
from resonance.store.redis_keyspace import RedisKeyspace
from tests.faults.world import KEYS, MEMBER


def resident() -> str:
    """KiB that this process holds now and has ever held. Not ``getrusage``: that one remembers its parent's too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return " ".join(found[name].split()[0] for name in ("VmRSS", "VmHWM"))


class File:
    """The restore file, on tmpfs as in a pod."""

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            file.writelines(parts)


def clock() -> Now:
    return Now(int(time.time() * 1000), int(time.monotonic() * 1000))


def main() -> None:
    """Serve the lines of standard input with the turns of a session."""
    keyspace = RedisKeyspace(read_settings(json.loads(sys.argv[1])))
    source = HttpSource(sys.argv[2], timeout=timedelta(seconds=30), max_bytes=int(sys.argv[3]))
    who = Claimant("pod", "web-0", "t", Identity.POD_NAME, MEMBER.name)
    report = Report(Outcome.SKIPPED, "", "pod", "web-0", "node", "agent", "1", 1000)
    session = Session(keyspace, KEYS, who, source, clock, file=File(), given=Given(), report=report)
    print(resident(), flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            done = session.turn()
            if done.outcome not in GOOD:
                raise RuntimeError(f"{done.outcome}: {done.message}")
        print(resident(), flush=True)


if __name__ == "__main__":
    main()
