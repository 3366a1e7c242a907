"""A process that imports once and then forks writers, so that two hundred of them can be killed in a short time.

Run as a program with the keys of a Secret as JSON in its first argument. Each line on its standard input is the number
of a first mark; a writer is forked that restores, then commits one state a mark for ever, and says on the standard
output what it sends and what was acknowledged: ``pid 7``, ``sent 3``, ``acknowledged 3``.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Self

from resonance.codec import encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.errors import StoreError
from resonance.model.report import GOOD
from resonance.model.state import State
from resonance.store.connection import read_settings
from resonance.store.keyspace import Keyspace
from resonance.store.member import load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore
from tests.faults.world import LIMITS, MAX_BYTES, MEMBER

_noise = random.Random(7).randbytes(300_000).hex().encode()


def state_of(mark: int) -> State:
    """The state of one mark: mostly small, each fifth one so large that it is staged, blob and all."""
    nodes = {f"n{each}": b'{"phase":%d}' % (mark if each == mark % 40 else each) for each in range(40)}
    if mark % 5 == 0:
        start = mark % 1000
        nodes["wide"] = b'{"pad":"%s"}' % _noise[start : start + 590_000]
    return State({"nodes": nodes, "fields": {}}, b'{"mark":%d}' % mark)


def mark_of(state: State) -> int:
    """The mark that a state says it has."""
    return int(json.loads(state.metrics or b"")["mark"])


def newest(keyspace: Keyspace) -> State | None:
    """What a restore gives; None when there never was a snapshot. Fails on anything that was damaged."""
    seen = load(keyspace, MEMBER)
    if seen.record.head is None:
        return None
    found = restore(keyspace, MEMBER, seen, max_bytes=MAX_BYTES)
    if found is None or found.skipped:
        if load(keyspace, MEMBER).record.head != seen.record.head:
            return newest(keyspace)  # the writer lives, and retention has dropped what was about to be read
        raise AssertionError(f"{seen.record.damage} {found.skipped if found is not None else 'nothing verifies'}")
    return found.state


def write_for_ever(keyspace: Keyspace, mark: int) -> None:
    """Restore, then commit mark after mark, each until it is acknowledged."""
    seen = load(keyspace, MEMBER)
    head = seen.record.head
    files = {head.manifest.id: head.commit} if head is not None else {}
    proof = Proof(uuid.uuid4().hex, head.manifest.id if head is not None else None)
    writer = Writer(keyspace, MEMBER, uid="pod", pod="web-0", epoch=1, files=files, limits=LIMITS)
    while True:
        state = encode_state(state_of(mark))
        _say(f"sent {mark}")
        while not _saved(writer, state, proof):
            pass
        _say(f"acknowledged {mark}")
        mark += 1


def _saved(writer: Writer, document: bytes, proof: Proof) -> bool:
    try:
        writer.learn()
        good = writer.commit(writer.prepare(document, proof, taken_at_ms=1)).outcome in GOOD
        if good:
            writer.settle()
    except StoreError:
        time.sleep(0.01)
        return False
    return good


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """Fork a writer for each line; the writers end with their parent, or by being killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    settings = read_settings(json.loads(sys.argv[1]))
    children: list[int] = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            write_for_ever(RedisKeyspace(settings), int(line))
        children.append(pid)
        _say(f"pid {pid}")
    for pid in children[-1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@dataclass(slots=True)
class Nursery:
    """The program from outside. ``sent`` and ``acknowledged`` are the highest marks that its writers named."""

    secret: Mapping[str, str]
    sent: int = -1
    acknowledged: int = -1
    pid: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _rest: bytes = field(default=b"")

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.faults.nursery", json.dumps(dict(self.secret))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        return self

    def __exit__(self, *unused: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=10)
            self._pipe().close()

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def begin(self) -> None:
        """Fork a writer that goes on after the last mark that was sent."""
        assert self._process is not None
        assert self._process.stdin is not None
        self.pid = 0
        self._process.stdin.write(f"{self.sent + 1}\n".encode())

    def listen(self, seconds: float) -> None:
        """Hear what the writer says for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self._pipe()], [], [], left)[0]:
            self._hear(os.read(self._pipe().fileno(), 1 << 16))

    def _hear(self, said: bytes) -> None:
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            word, number = line.decode().split()
            match word:
                case "sent":
                    self.sent = max(self.sent, int(number))
                case "acknowledged":
                    self.acknowledged = max(self.acknowledged, int(number))
                case _:
                    self.pid = int(number)

    def listen_until(self, mark: int, *, seconds: float = 30) -> None:
        """Hear until the writer has sent this mark."""
        until = time.monotonic() + seconds
        while self.sent < mark or not self.pid:
            assert time.monotonic() < until, f"the writer got to {self.sent}, not to {mark}"
            self.listen(0.02)

    def kill(self) -> None:
        """``kill -9`` of the writer; then hear what it had said before."""
        os.kill(self.pid, signal.SIGKILL)
        while select.select([self._pipe()], [], [], 0.002)[0]:
            self._hear(os.read(self._pipe().fileno(), 1 << 16))


if __name__ == "__main__":
    main()
