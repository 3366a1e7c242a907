"""What saving costs in memory: it does not grow with the number of saves, and its peak is a small multiple of a state.

Measured where it counts: a process of its own, over HTTP and a real TLS Redis, with the settings of the agent's image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

import pytest

from tests.redis_server import TlsRedis

pytestmark = pytest.mark.redis

SAVES = 1_000
MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
ENTRY = 500


def document(size: int, mark: int, *, changed: int) -> bytes:
    """A state of about ``size`` bytes in entries of 500; each ``changed``-th of them depends on the mark."""
    entries = []
    for at in range(size // ENTRY):
        phase = (mark if at % changed == mark % changed else 0) * 7919 + at
        head = b'"n%d":{"phase":%d,"pad":"' % (at, phase)
        entries.append(head + b"%x" % (phase * 2654435761 % (1 << 64)) * 40 + b'"}')
    body = b",".join(each[:ENTRY] if len(each) <= ENTRY else each[: ENTRY - 2] + b'"}' for each in entries)
    return b'{"nodes":{' + body + b'},"metrics":{"mark":%d}}' % mark


@contextmanager
def app(documents: Sequence[bytes]) -> Iterator[str]:
    """An app whose exports are these documents in turn."""
    exports = cycle(documents)

    class Export(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = next(exports)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Resonance-Incarnation", "app")
            self.send_header("Resonance-Restored-From", "none")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *unused: object) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Export) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/state"
        finally:
            serving.shutdown()
            thread.join()


def settings_of_the_image() -> dict[str, str]:
    """How the agent's image sets its allocator."""
    return dict(re.findall(r"(MALLOC_\w+)=(\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")))


class Saver:
    """The measured process."""

    def __init__(self, server: TlsRedis, address: str) -> None:
        command = [sys.executable, "-m", "tests.faults.saving", json.dumps(server.secret), address, str(64 * MIB)]
        environment = {**os.environ, **settings_of_the_image()}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )
        self.idle = self._answer()[0]

    def _answer(self) -> tuple[int, int]:
        assert self._process.stdout is not None
        now, most = self._process.stdout.readline().split()
        return int(now) * 1024, int(most) * 1024

    def turns(self, count: int) -> tuple[int, int]:
        """(bytes resident afterwards, the most ever)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        return self._answer()

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *unused: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(timeout=30)


def test_a_thousand_saves_of_ten_megabytes_do_not_grow_the_process(server: TlsRedis) -> None:
    server.admin().flushall()
    states = [document(10 * MIB, mark, changed=100) for mark in range(7)]
    with app(states) as address, Saver(server, address) as saver:
        after_some, _ = saver.turns(100)
        after_all, most = saver.turns(SAVES - 100)
        now = f"after 100 saves {after_some / MIB:.0f} MiB, after {SAVES} {after_all / MIB:.0f}"
        print(f"10 MB: {now}, peak {most / MIB:.0f}")
        assert server.admin().hget("resonance:{shop/web/StatefulSet.web}:web-0:head", "seq") == b"%d" % SAVES
    assert after_all <= after_some * 1.05 + MIB


@pytest.mark.parametrize(
    ("changed", "times"),
    [
        pytest.param(100, 4.0, id="one in a hundred changes"),
        pytest.param(1, 6.5, id="everything changes: the state before is there too, to be compared with"),
    ],
)
def test_saving_fifty_megabytes_takes_a_small_multiple_of_them(server: TlsRedis, changed: int, times: float) -> None:
    server.admin().flushall()
    states = [document(50 * MIB, mark, changed=changed) for mark in range(3)]
    size = len(states[0])
    with app(states) as address, Saver(server, address) as saver:
        _, first = saver.turns(1)
        _, most = saver.turns(5)
        print(f"50 MB: peak of the first {first / size:.2f}, of all {most / size:.2f} times the state")
    assert first <= 4 * size
    assert most <= times * size
