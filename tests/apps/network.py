"""A resonance network as a real program: the input that every cluster test and bench feeds to the system.

Idea: oscillators couple and drift. The next state is a pure function of the state alone (`step`); randomness comes
from the seed and the tick in that state. So a test takes any snapshot, computes k steps by itself, and compares
them with what the process exports after a restore: equal to the last bit, or something was lost.

Argument: only IEEE additions, multiplications, divisions, square roots and 32-bit integers are used, never `math.sin`,
whose last bit depends on the C library. `network.mjs` does the same operations in the same order, so both languages
agree exactly. Nodes are summed in the order of their ids, because a store may hand them back in any order. Every kind
carries history (a field's intensity, a pattern's age): a restore that forgets one of them is found out within a tick.

Needs nothing but the Python standard library. Deliberately not here: TLS, authentication, any knowledge of the agent
beyond the contract (export, restore file, proof headers, final file).
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, urlsplit

State = dict[str, Any]  # kind -> id -> object; `metrics` is one object
Node = dict[str, Any]

SMALLEST, LARGEST = 10, 50_000
REGIONS = ("alpha", "beta", "delta", "theta")  # one field each, a quarter of the nodes
SECTORS = 8  # parts of a turn in which a cluster of phases is looked for
CROWD = 1.5  # a sector with this many times its fair share is a pattern
REST_FREQUENCY = 0.013  # turns per tick
COUPLING, RELAXATION, DRIFT, ADAPTATION, MEMORY = 0.05, 0.001, 0.0002, 0.05, 0.9
WORD = 0xFFFFFFFF
COMPUTED = frozenset(
    {"tick", "seed", "nodes", "order", "energy", "clusters"}
)  # metrics that nobody may set from outside

_TURN_SQUARED = 39.47841760435743  # (2 pi) ** 2
_SERIES = (
    6.283185307179586,
    -1.0471975511965976,
    0.05235987755982988,
    -0.001246663751424521,
    1.7314774325340572e-05,
    -1.574070393212779e-07,
    1.0090194828287046e-09,
    -4.804854680136688e-12,
)  # 2 pi times the Taylor coefficients of the sine

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class StateNotUnderstoodError(ValueError):
    """The document is no state of this network. Trying again with the same document does not help."""


# The network: pure functions.


def sine(turns: float) -> float:
    """Return the sine of an angle in turns, off by less than 1e-11; the same bits on every machine and in Node.js."""
    rest = turns - math.floor(turns + 0.5)
    if rest > 0.25:
        rest = 0.5 - rest
    elif rest < -0.25:
        rest = -0.5 - rest
    square = _TURN_SQUARED * (rest * rest)
    a, b, c, d, e, f, g, h = _SERIES
    return rest * (
        a + square * (b + square * (c + square * (d + square * (e + square * (f + square * (g + square * h))))))
    )


def chance(seed: int, tick: int, place: int, purpose: int) -> int:
    """Return 32 bits that depend on the arguments only."""
    word = (seed * 0x9E3779B1 + tick * 0x6C8E9CF5 + place * 0x2545F491 + purpose * 0x1B873593 + 0x5851F42D) & WORD
    word = ((word ^ (word >> 16)) * 0x5BD1E995) & WORD
    word = ((word ^ (word >> 13)) * 0x27D4EB2F) & WORD
    return word ^ (word >> 15)


def share(seed: int, tick: int, place: int, purpose: int) -> float:
    """Return a fraction in [0, 1) that depends on the arguments only."""
    return chance(seed, tick, place, purpose) / 4294967296.0


def changing(count: int, percent: float, tick: int) -> Sequence[int]:
    """Return the places that this tick changes: exactly ceil(percent) of them, spread, each node equally often."""
    wanted = math.ceil(count * percent / 100)
    if wanted >= count:
        return range(count)
    stride = math.floor(count * 0.6180339887498949)
    while math.gcd(stride, count) != 1:
        stride += 1
    start = tick * wanted % count
    return [(start + offset) % count * stride % count for offset in range(wanted)]


def step(state: State) -> State:
    """Return the state one tick later. Never changes its argument; nodes that stay the same are shared, not copied."""
    nodes: dict[str, Node] = state["nodes"]
    tick, seed, percent = (state["metrics"][name] for name in ("tick", "seed", "changePercent"))
    ids = sorted(nodes)
    place = {name: index for index, name in enumerate(ids)}
    phasors = [phasor(nodes[name]["phase"]) for name in ids]
    following = {name: nodes[name] for name in ids}
    for index in changing(len(ids), percent, tick):
        node = nodes[ids[index]]
        real = imaginary = 0.0
        for other in node["coupling"]:
            cosine, sinus = phasors[place[other]]
            weight = nodes[other]["amplitude"]
            real += weight * cosine
            imaginary += weight * sinus
        real /= len(node["coupling"])
        imaginary /= len(node["coupling"])
        cosine, sinus = phasors[index]
        frequency, amplitude = node["frequency"], node["amplitude"]
        noise = share(seed, tick, index, 7) - 0.5
        frequency = frequency + RELAXATION * (REST_FREQUENCY - frequency) + DRIFT * noise
        turned = node["phase"] + frequency + COUPLING * (imaginary * cosine - real * sinus)
        turned -= math.floor(turned)
        nearby = math.sqrt(real * real + imaginary * imaginary)
        following[ids[index]] = {
            **node,
            "amplitude": amplitude + ADAPTATION * (0.3 + 0.7 * nearby - amplitude),
            "frequency": frequency,
            "phase": 0.0 if turned >= 1.0 else turned,
        }
    return observed({**state, "nodes": following, "metrics": {**state["metrics"], "tick": tick + 1}})


def phasor(phase: float) -> tuple[float, float]:
    """Return cosine and sine of a phase in turns."""
    return sine(phase + 0.25), sine(phase)


def observed(state: State) -> State:
    """Return the state with fields, patterns and metrics as its nodes now make them, keys in order."""
    nodes: dict[str, Node] = state["nodes"]
    count, tick = len(nodes), state["metrics"]["tick"]
    sums = [Sum() for _ in REGIONS]
    sectors = [0] * SECTORS
    power = 0.0
    for index, name in enumerate(nodes):
        node = nodes[name]
        cosine, sinus = phasor(node["phase"])
        region = sums[index * len(REGIONS) // count]
        region.members += 1
        region.real += cosine
        region.imaginary += sinus
        sectors[math.floor(node["phase"] * SECTORS)] += 1
        power += node["amplitude"] * node["amplitude"]
    fields = {name: field_of(region, state["fields"].get(name, {})) for name, region in zip(REGIONS, sums, strict=True)}
    patterns = {
        f"cluster-{sector}": pattern_of(members, tick, state["patterns"].get(f"cluster-{sector}"))
        for sector, members in enumerate(sectors)
        if members >= CROWD * count / SECTORS
    }
    real = imaginary = 0.0
    for region in sums:  # not the built-in sum: its rounding differs between Python versions
        real += region.real
        imaginary += region.imaginary
    real, imaginary = real / count, imaginary / count
    order = math.sqrt(real * real + imaginary * imaginary)
    energy = 0.5 * (power / count) * (1.0 - order * order)
    metrics = {**state["metrics"], "nodes": count, "order": order, "energy": energy, "clusters": len(patterns)}
    return in_order({**state, "fields": fields, "patterns": patterns, "metrics": in_order(metrics)})


@dataclass
class Sum:
    """The phasors of a region, added up."""

    members: int = 0
    real: float = 0.0
    imaginary: float = 0.0


def field_of(region: Sum, before: Mapping[str, Any]) -> Node:
    """Return a region's field: its mean phasor, and an intensity that remembers earlier ticks."""
    members, real, imaginary = region.members, region.real / region.members, region.imaginary / region.members
    strength = math.sqrt(real * real + imaginary * imaginary)
    intensity = MEMORY * before.get("intensity", strength) + (1.0 - MEMORY) * strength
    return {"imaginary": imaginary, "intensity": intensity, "members": members, "real": real, "strength": strength}


def pattern_of(members: int, tick: int, before: Mapping[str, Any] | None) -> Node:
    """Return a cluster of phases: how many nodes now, the most there ever were, and since when it stands."""
    if before is None:
        return {"members": members, "peak": members, "since": tick}
    return {"members": members, "peak": max(members, before["peak"]), "since": before["since"]}


def in_order(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same table with its keys sorted."""
    return {name: table[name] for name in sorted(table)}


def founded(count: int, seed: int, change_percent: float, bytes_per_node: int) -> State:
    """Return the first state of a new network. `bytes_per_node` is the size of a node's JSON, 0 for no padding."""
    nodes = {f"n{index:05d}": first_node(index, count, seed) for index in range(count)}
    noise = "".join(f"{chance(seed, 0, index, 6):08x}" for index in range(8192))
    repeated = noise * (2 + bytes_per_node // len(noise))
    for index, node in enumerate(nodes.values()):
        length = bytes_per_node - len(_encode(node)) - len(',"pad":""')
        if length > 0:
            start = chance(seed, 0, index, 5) % len(noise)
            node.update(in_order({**node, "pad": repeated[start : start + length]}))
    nodes = {name: in_order(node) for name, node in nodes.items()}
    metrics = {"tick": 0, "seed": seed, "changePercent": change_percent}
    return observed({"nodes": nodes, "fields": {}, "patterns": {}, "metrics": metrics})


def first_node(index: int, count: int, seed: int) -> Node:
    """Return an oscillator of a new network, coupled to its two neighbours on the ring and to two far ones."""
    offsets = (1, count - 1, 2 + chance(seed, 0, index, 3) % (count - 3), 2 + chance(seed, 0, index, 4) % (count - 3))
    return {
        "amplitude": 0.5 + 0.5 * share(seed, 0, index, 0),
        "coupling": [f"n{(index + offset) % count:05d}" for offset in offsets],
        "frequency": 0.005 + 0.02 * share(seed, 0, index, 1),
        "phase": share(seed, 0, index, 2),
    }


def understood(document: object) -> tuple[State, str]:
    """Return the state of a restore file, keys in order, and the snapshot id, or `none` if it names none.

    Raises StateNotUnderstoodError, with the path of the first problem.
    """
    if not isinstance(document, dict):
        raise StateNotUnderstoodError("the document is not a JSON object")
    state: State = {kind: content for kind, content in document.items() if kind != "snapshot"}
    for kind in ("fields", "metrics", "nodes", "patterns"):
        if not isinstance(state.get(kind), dict):
            raise StateNotUnderstoodError(f"{kind}: an object is missing")
    for name in ("tick", "seed", "changePercent"):
        if not isinstance(state["metrics"].get(name), int | float):
            raise StateNotUnderstoodError(f"metrics.{name}: a number is missing")
    nodes = {name: in_order(node) for name, node in in_order(state["nodes"]).items()}
    for name, node in nodes.items():
        for strange in (other for other in node.get("coupling", ()) if other not in nodes):
            raise StateNotUnderstoodError(f"nodes.{name}.coupling: {strange!r} is not a node")
        if not {"amplitude", "coupling", "frequency", "phase"} <= node.keys():
            raise StateNotUnderstoodError(f"nodes.{name}: amplitude, coupling, frequency and phase are needed")
    ordered = {
        kind: {name: tidy(value) for name, value in in_order(state[kind]).items()} for kind in state if kind != "nodes"
    }
    return in_order({**ordered, "nodes": nodes}), str(document.get("snapshot", {}).get("id", "none"))


def parsed(text: bytes) -> Any:
    """Return what the JSON says. Raises ValueError for no JSON, and for NaN and Infinity, which JSON does not have."""

    def refuse(name: str) -> None:
        raise StateNotUnderstoodError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def tidy(value: Any) -> Any:
    """Return the value, its keys sorted if it is a table."""
    return in_order(value) if isinstance(value, dict) else value


# The process: one moment after another, each a whole and unchanging value.


@dataclass(frozen=True)
class Moment:
    """A state and the number of changes that this process made before it."""

    state: State
    revision: int


class Encoder:
    """Turns moments into JSON bytes; encodes a moment once, and again only those nodes that changed since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: dict[str, tuple[Node, str]] = {}
        self._last: tuple[Moment, bytes] | None = None

    def encoded(self, moment: Moment) -> bytes:
        """Return the moment's state as JSON, keys in the order of the state."""
        with self._lock:
            if self._last is None or self._last[0] is not moment:
                self._last = (moment, self._whole(moment.state).encode("ascii"))
            return self._last[1]

    def _whole(self, state: State) -> str:
        kinds = (self._nodes(state["nodes"]) if kind == "nodes" else _encode(state[kind]) for kind in state)
        return "{" + ",".join(f"{_encode(kind)}:{text}" for kind, text in zip(state, kinds, strict=True)) + "}"

    def _nodes(self, nodes: Mapping[str, Node]) -> str:
        pieces = self._pieces
        for name, node in nodes.items():
            known = pieces.get(name)
            if known is None or known[0] is not node:
                pieces[name] = (node, f"{_encode(name)}:{_encode(node)}")
        return "{" + ",".join([pieces[name][1] for name in nodes]) + "}"


@dataclass
class Network:
    """The living network: changes are made one at a time, readers always see a whole moment."""

    moment: Moment
    incarnation: str
    restored_from: str
    proof_headers: bool
    path: str
    ready: threading.Event = field(default_factory=threading.Event)
    encoder: Encoder = field(default_factory=Encoder)
    eaten: list[bytes] = field(default_factory=list)
    _change: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def change(self, following: Callable[[State], State], times: int = 1) -> bool:
        """Apply a pure function to the state, so many times. Returns False once the network has ended."""
        for _ in range(times):
            with self._change:
                if self._ended:
                    return False
                self.moment = Moment(following(self.moment.state), self.moment.revision + 1)
        return True

    def end(self) -> bytes:
        """Let nothing change any more and return the last state as JSON."""
        with self._change:
            self._ended = True
        return self.encoder.encoded(self.moment)

    def headers(self) -> dict[str, str]:
        """Return the headers that prove which life this is and what it was restored from."""
        if not self.proof_headers:
            return {}
        return {"Resonance-Incarnation": self.incarnation, "Resonance-Restored-From": self.restored_from}

    def info(self) -> dict[str, Any]:
        """Return what a test wants to know about this process."""
        return {
            "incarnation": self.incarnation,
            "restoredFrom": self.restored_from,
            "pid": os.getpid(),
            "tick": self.moment.state["metrics"]["tick"],
            "ready": self.ready.is_set(),
        }


def with_metrics(state: State, extra: Mapping[str, Any]) -> State:
    """Return the state with these metrics merged in.

    Raises StateNotUnderstoodError for a metric that the network computes itself.
    """
    for name in sorted(COMPUTED & extra.keys()):
        raise StateNotUnderstoodError(f"metrics.{name}: the network computes it; choose another name")
    percent = extra.get("changePercent", 100)
    if not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise StateNotUnderstoodError(f"metrics.changePercent: {percent!r} is not a number from 0 to 100")
    merged = in_order({**state["metrics"], **{name: tidy(value) for name, value in extra.items()}})
    return {**state, "metrics": merged}


class Handler(BaseHTTPRequestHandler):
    """HTTP face of the network; one thread for each connection, connections stay open."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one segment
    disable_nagle_algorithm = True

    def __init__(self, network: Network, *connection: Any) -> None:
        self.network = network
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Answer the export, /info or /healthz."""
        path = urlsplit(self.path).path
        if path == self.network.path:
            self._export()
        elif path == "/healthz":
            self._answer(HTTPStatus.OK, {"alive": True})
        elif path == "/info":
            self._answer(HTTPStatus.OK, self.network.info())
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"{path}: no such page"})

    def do_POST(self) -> None:
        """Do what a test asks: /tick, /set, /eat or /die."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        arguments = {name: values[-1] for name, values in parse_qs(url.query).items()}
        deeds = {"/tick": self._tick, "/set": self._set, "/eat": self._eat, "/die": self._die}
        if url.path not in deeds:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"{url.path}: no such page"})
            return
        try:
            deeds[url.path](arguments, body)
        except (ValueError, AttributeError) as problem:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(problem)})

    def _export(self) -> None:
        network, moment = self.network, self.network.moment
        tag = f'"{network.incarnation}-{moment.revision}"'
        if not network.ready.is_set():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "not ready to be captured"})
        elif tag in (seen.strip() for seen in self.headers.get("If-None-Match", "").split(",")):
            self._send(HTTPStatus.NOT_MODIFIED, b"", {"ETag": tag})
        else:
            self._send(HTTPStatus.OK, network.encoder.encoded(moment), {"ETag": tag})

    def _tick(self, arguments: Mapping[str, str], _body: bytes) -> None:
        self._changed(self.network.change(step, int(arguments.get("n", "1"))))

    def _set(self, _arguments: Mapping[str, str], body: bytes) -> None:
        extra = parsed(body)
        if not isinstance(extra, dict):
            raise StateNotUnderstoodError("the body is not a JSON object")
        self._changed(self.network.change(functools.partial(with_metrics, extra=extra)))

    def _changed(self, done: bool) -> None:
        status = HTTPStatus.OK if done else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, {"tick": self.network.moment.state["metrics"]["tick"]})

    def _eat(self, arguments: Mapping[str, str], _body: bytes) -> None:
        for _ in range(int(arguments.get("mb", "1"))):
            self.network.eaten.append(b"\xa5" * 2**20)
        self._answer(HTTPStatus.OK, {"eatenMb": len(self.network.eaten)})

    def _die(self, arguments: Mapping[str, str], _body: bytes) -> None:
        os._exit(int(arguments.get("code", "1")))

    def _answer(self, status: HTTPStatus, content: object) -> None:
        self._send(status, _encode(content).encode(), {})

    def _send(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**self.network.headers(), **headers}.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name that http.server gave it
        """Keep quiet: a capture every second is no news."""


class Server(ThreadingMixIn, TCPServer):
    """The listening socket; threads end with the process. Unlike http.server's own it asks no name server at start."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what went wrong in a connection, unless it is only that the client left."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(options: argparse.Namespace) -> int:
    """Run the network until SIGTERM. Returns the exit code: 0 ended as asked, 1 the restore file is unusable."""
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # waited for below; a handler could run inside any lock
    try:
        state, restored_from = starting_state(options)
    except (OSError, ValueError) as problem:
        print(f"network: $RESONANCE_RESTORE_FILE cannot be restored: {problem}. Not starting empty.", file=sys.stderr)
        return 1
    network = Network(Moment(state, 0), secrets.token_hex(8), restored_from, options.proof_headers, options.path)
    server = Server((options.bind, options.port), functools.partial(Handler, network))
    if not options.startup_delay_ms:
        network.ready.set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(_encode({"event": "serving", "port": server.server_address[1], **network.info()}), flush=True)
    if network.ready.is_set() or signal.sigtimedwait(ending, options.startup_delay_ms / 1000) is None:
        network.ready.set()
        if options.tick_ms:
            threading.Thread(target=keep_ticking, args=(network, options.tick_ms / 1000), daemon=True).start()
        signal.sigwait(ending)
        threading.Event().wait(options.linger_ms / 1000)
        write_final(network.end(), options)
    return 0


def starting_state(options: argparse.Namespace) -> tuple[State, str]:
    """Return what the process starts with and the snapshot it is from. OSError, ValueError: the file is unusable."""
    file = Path(os.environ.get("RESONANCE_RESTORE_FILE") or os.devnull)
    if file.is_file() and not options.ignore_restore:
        return understood(parsed(file.read_bytes()))
    return founded(options.nodes, options.seed, options.change_percent, options.bytes_per_node), "none"


def keep_ticking(network: Network, pause: float) -> None:
    """Advance the network with so many seconds between two ticks, until it has ended."""
    clock = threading.Event()
    while not clock.wait(pause) and network.change(step):
        pass


def write_final(state: bytes, options: argparse.Namespace) -> None:
    """Leave the last state in $RESONANCE_FINAL_FILE, whole or not at all."""
    name = os.environ.get("RESONANCE_FINAL_FILE")
    if name and options.final:
        unfinished = Path(f"{name}.{os.getpid()}.tmp")
        unfinished.write_bytes(state)
        unfinished.rename(name)


# The command line.


def main(arguments: Sequence[str]) -> int:
    """Run `network.py [serve] …` or `network.py step …`. Returns the exit code: 0 done, 1 failed, 2 usage."""
    if arguments[:1] == ["step"]:
        return print_step(step_options().parse_args(arguments[1:]))
    parser = serve_options(os.environ)
    options = parser.parse_args(arguments[1:] if arguments[:1] == ["serve"] else arguments)
    if not SMALLEST <= options.nodes <= LARGEST:
        parser.error(f"--nodes: {options.nodes} is not allowed: a network has {SMALLEST} to {LARGEST} nodes")
    if not 0 <= options.change_percent <= 100:
        parser.error(f"--change-percent: {options.change_percent} is not allowed: give a number from 0 to 100")
    if not 0 <= options.seed <= WORD:
        parser.error(f"--seed: {options.seed} is not allowed: give a whole number from 0 to {WORD}")
    return serve(options)


def print_step(options: argparse.Namespace) -> int:
    """Print the state so many ticks after the one in the file, with the snapshot's name dropped."""
    try:
        text = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
        state, _ = understood(parsed(text))
    except (OSError, ValueError) as problem:
        print(f"network: --from {options.file}: {problem}", file=sys.stderr)
        return 1
    for _ in range(options.ticks):
        state = step(state)
    print(_encode(state))
    return 0


def step_options() -> argparse.ArgumentParser:
    """Describe the flags of `step`."""
    parser = argparse.ArgumentParser("network.py step", description="Print the state some ticks later.")
    parser.add_argument("--from", dest="file", required=True, help="a state or a restore file; - for standard input")
    parser.add_argument("--ticks", type=int, default=1)
    return parser


def serve_options(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Describe the flags of `serve`. Each one `--a-flag` can also be given as NETWORK_A_FLAG."""
    parser = argparse.ArgumentParser(
        "network.py", description="A resonance network that exports and restores its state."
    )

    def value(flag: str, default: float | str, kind: Callable[[str], Any], meaning: str) -> None:
        name = "NETWORK" + flag.replace("-", "_")[1:].upper()
        parser.add_argument(flag, type=kind, default=environment.get(name, default), help=f"{meaning} (${name})")

    def switch(flag: str, dest: str, const: bool, meaning: str) -> None:
        name = "NETWORK" + flag.replace("-", "_")[1:].upper()
        default = const if environment.get(name, "") not in ("", "0") else not const
        parser.add_argument(
            flag, dest=dest, action="store_const", const=const, default=default, help=f"{meaning} (${name})"
        )

    value("--port", 8080, int, "0 for any free one; the first line printed tells which")
    value("--bind", "0.0.0.0", str, "address to listen on")
    value("--path", "/resonance/state", str, "where the state is exported")
    value("--nodes", 100, int, f"{SMALLEST} to {LARGEST}")
    value("--seed", 1, int, "of all randomness")
    value("--tick-ms", 1000, float, "between two ticks; 0: only POST /tick advances")
    value("--change-percent", 100, as_number, "share of the nodes that a tick changes")
    value("--bytes-per-node", 0, int, "pad each node's JSON to this size")
    value("--startup-delay-ms", 0, float, "answer 503 for so long")
    value("--linger-ms", 0, float, "go on after SIGTERM for so long")
    switch("--ignore-restore", "ignore_restore", True, "a broken app: starts from nothing, whatever the file says")
    switch("--no-proof-headers", "proof_headers", False, "an app that does not prove its lineage")
    switch("--no-final", "final", False, "write no final file on SIGTERM")
    return parser


def as_number(text: str) -> float:
    """Return a whole number where the text is one, so that both languages export the same JSON."""
    return int(float(text)) if float(text).is_integer() else float(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
