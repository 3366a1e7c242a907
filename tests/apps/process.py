"""An app as a process of this machine: started, asked, ended. For tests and benches that need no cluster.

The process is given its port and the contract's two files; everything else goes over HTTP, on one connection that stays
open, as the agent's does.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

HERE = Path(__file__).parent
PATIENCE = 15.0  # seconds until a condition that should hold soon is given up
PYTHON_NETWORK = (sys.executable, str(HERE / "network.py"))
NODE_NETWORK = ("node", str(HERE / "network.mjs"))

T = TypeVar("T")


def eventually(found: Callable[[], T | None]) -> T:
    """Return the first answer that is neither None nor False. Raises TimeoutError when there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = found()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} never came true")
        time.sleep(0.005)


def free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Reply:
    """What the app answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def content(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


class App(AbstractContextManager["App"]):
    """A running app; leaving the context kills it if it still lives."""

    def __init__(self, command: Sequence[str], port: int, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PORT": str(port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    @classmethod
    def network(
        cls, command: Sequence[str], *flags: str, restore: Path | None = None, final: Path | None = None
    ) -> Self:
        """Start a network that listens on loopback and advances only when told, unless the flags say otherwise."""
        files = {"RESONANCE_RESTORE_FILE": restore, "RESONANCE_FINAL_FILE": final}
        port = free_port()
        defaults = ("--bind", "127.0.0.1", "--port", str(port), "--nodes", "30", "--tick-ms", "0")
        return cls((*command, *defaults, *flags), port, {name: str(file) for name, file in files.items() if file})

    def until_serving(self) -> Self:
        """Wait until the app accepts connections. Raises AssertionError with its last words if it ended instead."""

        def accepted() -> bool:
            assert self.process.poll() is None, self.process.communicate()[1]
            try:
                self.connection.connect()
            except ConnectionRefusedError:
                return False
            return True

        eventually(accepted)
        return self

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Send one request. An underscore in a header's name stands for a hyphen."""
        text = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, text, named)
        response = self.connection.getresponse()
        return Reply(response.status, response.headers, response.read())

    def export(self, **headers: str) -> Reply:
        """Ask for the state."""
        return self.ask("GET", "/resonance/state", **headers)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code (negative: the signal that ended it)."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def last_words(self) -> str:
        """Wait for the end and return what the app wrote to standard error."""
        return self.process.communicate(timeout=PATIENCE)[1]

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
