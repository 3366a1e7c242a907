"""The network app in a pod, asked by the pod's address; and what it means that a state *goes on*.

The argument: the next state is a pure function of the state (`tests.apps.network.step`), so the proof that nothing was
lost is arithmetic. The test takes what the app exported before, computes the ticks in between by itself, and compares
every field of every object with what the app exports afterwards.
"""

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.apps.network import State, step

PORT = 8080
PATIENCE = 5.0
_SHOWN = 5
_MOST_TICKS = 20_000


@dataclass(frozen=True)
class Exported:
    """One answer of the app: the state, which life of the process gave it, and what that life began with."""

    state: State
    incarnation: str
    restored_from: str

    @property
    def tick(self) -> int:
        tick: int = self.state["metrics"]["tick"]
        return tick

    @property
    def line(self) -> str:
        """The line that this process carries."""
        return self.incarnation if self.restored_from == "none" else self.restored_from.rpartition(".")[0]


class App:
    """The app at an address. Every method raises OSError or HTTPException when it does not answer."""

    def __init__(self, address: str) -> None:
        self.address = address

    def export(self) -> Exported:
        """What the app holds now."""
        answer, headers = self._ask("GET", "/resonance/state")
        return Exported(answer, headers["Resonance-Incarnation"], headers["Resonance-Restored-From"])

    def tick(self, times: int = 1) -> int:
        """Advance the network and give the tick that it is at now."""
        tick: int = self._ask("POST", f"/tick?n={times}")[0]["tick"]
        return tick

    def set(self, **metrics: object) -> None:
        """Put something into the state that no other network has."""
        self._ask("POST", "/set", json.dumps(metrics))

    def eat(self, megabytes: int) -> None:
        """Let the process take so much memory."""
        self._ask("POST", f"/eat?mb={megabytes}")

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[Any, Mapping[str, str]]:
        connection = http.client.HTTPConnection(self.address, PORT, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise http.client.HTTPException(f"{method} {path}: {response.status} {text[:200]!r}")
            return json.loads(text), dict(response.headers)
        finally:
            connection.close()


def after(state: State, ticks: int) -> State:
    """The state so many ticks later, computed here."""
    for _ in range(ticks):
        state = step(state)
    return state


def assert_same(expected: State, found: State) -> None:
    """Every field of every object is equal."""
    problems = list(differences(expected, found))
    shown = "\n  ".join(problems[:_SHOWN])
    assert not problems, f"{len(problems)} differences, the first ones:\n  {shown}"


def assert_goes_on(before: State, now: State) -> None:
    """`now` is what `before` becomes after as many ticks as lie between them; an older one is a loss."""
    ticks = now["metrics"]["tick"] - before["metrics"]["tick"]
    assert 0 <= ticks < _MOST_TICKS, f"tick {now['metrics']['tick']} came after tick {before['metrics']['tick']}"
    assert_same(after(before, ticks), now)


def differences(expected: Any, found: Any, path: str = "state") -> Iterator[str]:
    """Where two documents differ, one line each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in sorted(expected.keys() | found.keys()):
            if name not in expected or name not in found:
                yield f"{path}.{name}: only in the {'expected' if name in expected else 'found'} one"
            else:
                yield from differences(expected[name], found[name], f"{path}.{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, pair in enumerate(zip(expected, found, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif expected != found or type(expected) is not type(found):
        yield f"{path}: expected {expected!r:.80}, found {found!r:.80}"
