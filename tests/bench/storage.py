"""Saving and restoring, beside the adapter that apps write today and beside restic, interleaved in the same run.

The peer is a process of its own (peer/adapter.mjs). Ours is the writer that the agent runs, fed with the document that
an app exports; parsing it counts. Times are medians, on a Redis with TLS, AUTH and ``appendfsync everysec``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from tests.apps import network
from tests.bench.row import Row, at_most, faster
from tests.programs import require
from tests.redis_server import TlsRedis

from resonance.codec import encode_state
from resonance.engine.writer import Writer
from resonance.model.commit import Proof
from resonance.model.naming import MemberKeys
from resonance.model.retention import Retention
from resonance.store.member import Member, load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore

NODES, NODE_BYTES, ROUNDS = 10_000, 500, 7
PEER = Path(__file__).parent / "peer"
MEMBER = Member("bench", MemberKeys("resonance:bench"))
PROOF = Proof("bench", None)
MAX_BYTES = 1 << 30


class Network:
    """The resonance network of tests/apps, as a document; a tick changes one node in a hundred."""

    def __init__(self, nodes: int) -> None:
        self._state = network.founded(nodes, seed=7, change_percent=1.0, bytes_per_node=NODE_BYTES)

    def tick(self) -> None:
        """Go on by one step."""
        self._state = network.step(self._state)

    @property
    def document(self) -> bytes:
        """What an app exports."""
        return orjson.dumps(self._state)


class Peer:
    """The usual adapter, as a Node.js process with ioredis from npm."""

    def __init__(self, server: TlsRedis) -> None:
        if not (PEER / "node_modules").is_dir():
            subprocess.run(
                [require("npm", "nodejs", "npm"), "ci", "--no-audit", "--no-fund", "--silent"], cwd=PEER, check=True
            )
        environment = {**os.environ, "PORT": str(server.port), "USERNAME_": "resonance", "PASSWORD": server.password}
        environment["CA"] = str(server.folder / "ca.crt")
        self._process = subprocess.Popen(
            ["node", "adapter.mjs"], cwd=PEER, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line("ready")

    def _line(self, expected: str = "") -> str:
        stdout = self._process.stdout
        line = stdout.readline().strip() if stdout is not None else ""
        if not line or (expected and line != expected):
            raise RuntimeError(f"the peer said {line!r}")
        return line

    def _say(self, text: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()

    def save(self, document: bytes) -> float:
        """Milliseconds for one save of this state; reading it does not count."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(document)
            file.flush()
            self._say(f"load {file.name}")
            self._line("loaded")
            self._say("save")
            return float(self._line())

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


@dataclass
class Bench:
    """One Redis and one keyspace to it."""

    server: TlsRedis
    keyspace: RedisKeyspace

    def writer(self, recent: int = 60) -> Writer:
        """A writer that knows nothing but the records."""
        made = Writer(
            self.keyspace,
            MEMBER,
            uid="bench",
            pod="bench",
            epoch=1,
            files={},
            limits=Retention(recent=recent, hourly=0),
        )
        made.learn()
        return made

    def received(self) -> int:
        """Bytes that Redis has read from clients so far."""
        info: Any = self.server.admin().info("stats")
        return int(info["total_net_input_bytes"])

    def forget(self) -> None:
        """Empty the server."""
        self.server.admin().flushall()

    def history_bytes(self, *patterns: str) -> int:
        """Memory of the keys of a history, as Redis counts it."""
        admin: Any = self.server.admin()
        return sum(int(admin.memory_usage(key, samples=0) or 0) for each in patterns for key in admin.scan_iter(each))


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A fresh server."""
    with TlsRedis() as server:
        keyspace = RedisKeyspace(server.settings)
        yield Bench(server, keyspace)
        keyspace.close()


def save(writer: Writer, document: bytes) -> None:
    """One save, as the agent does it."""
    writer.commit(writer.prepare(document, PROOF, taken_at_ms=int(time.time() * 1000)))


def saves(here: Bench, peer: Peer, nodes: int, rounds: int, *, goals: bool) -> list[Row]:
    """Full and small saves beside the peer's, in turn."""
    one = Network(nodes)
    peers: list[float] = []
    full: list[float] = []
    settled: list[float] = []
    small: list[float] = []
    parts: dict[str, list[float]] = {"parse and compare": [], "send and commit": []}
    sent: list[int] = []
    for _ in range(rounds):
        here.forget()
        document = one.document
        peers.append(peer.save(document))
        writer = here.writer()
        full.append(timed(partial(save, writer, document)))
        settled.append(timed(writer.settle))
        for _ in range(3):
            one.tick()
            document = one.document
            before = here.received()
            began = time.perf_counter()
            capture = writer.prepare(document, PROOF, taken_at_ms=0)
            middle = time.perf_counter()
            writer.commit(capture)
            ended = time.perf_counter()
            small.append((ended - began) * 1000)
            parts["parse and compare"].append((middle - began) * 1000)
            parts["send and commit"].append((ended - middle) * 1000)
            sent.append(here.received() - before)
    of_peer = statistics.median(peers)
    what = f"{nodes:,} nodes"
    rows = [
        faster(
            f"full save, nothing known before, {what}", statistics.median(full), "ms", of_peer, 60 if goals else None
        ),
        faster(f"save with 1 % changed, {what}", statistics.median(small), "ms", of_peer, 150 if goals else None),
    ]
    rows.insert(1, Row(f"  after it: the hashes that people read, {what}", statistics.median(settled), "ms"))
    rows += [Row(f"  of it: {name}, {what}", statistics.median(each), "ms") for name, each in parts.items()]
    kilobytes = statistics.median(sent) / 1024
    name = f"bytes to Redis per save, 1 % changed, {what}"
    return [*rows, at_most(name, kilobytes, "KB", 64) if goals else Row(name, kilobytes, "KB")]


def history(here: Bench, peer: Peer) -> list[Row]:
    """Memory of 100 snapshots with 1 % changed each, beside the live state."""
    here.forget()
    one = Network(NODES)
    writer = here.writer(recent=100)
    for _ in range(100):
        one.tick()
        save(writer, one.document)
    root = MEMBER.keys.root
    ours = here.history_bytes(f"{root}:base:*", f"{root}:delta:*", f"{root}:snapshots", f"{root}:kept") / 1e6
    here.forget()
    peer.save(one.document)
    theirs = 100 * here.history_bytes("resonance:peer:snapshots") / 1e6
    limit = at_most("memory in Redis for 100 snapshots, 1 % changed each", ours, "MB", 5)
    return [Row(limit.name, ours, "MB", limit.goal, theirs, theirs / ours, limit.ok)]


def restores(here: Bench, nodes: int, *, goals: bool) -> list[Row]:
    """A verified restore of a base with changes on it, beside decoding the same bytes alone."""
    here.forget()
    one = Network(nodes)
    writer = here.writer()
    for _ in range(10):
        save(writer, one.document)
        one.tick()
    document = one.document
    save(writer, document)
    ours: list[float] = []
    alone: list[float] = []
    for _ in range(2 * ROUNDS + 1):
        alone.append(timed(lambda: orjson.loads(document)))
        ours.append(timed(lambda: restore(here.keyspace, MEMBER, load(here.keyspace, MEMBER), max_bytes=MAX_BYTES)))
    found = restore(here.keyspace, MEMBER, load(here.keyspace, MEMBER), max_bytes=MAX_BYTES)
    if found is None or orjson.loads(encode_state(found.state)) != orjson.loads(document):
        raise RuntimeError("the restored state is not the saved one")
    value, base = statistics.median(ours), statistics.median(alone)
    name = f"verified restore, {nodes:,} nodes (peer: orjson.loads alone)"
    return [
        Row(
            name,
            value,
            "ms",
            "<= 2 x orjson.loads" if goals else "",
            base,
            base / value,
            value <= 2 * base if goals else None,
        )
    ]


def stall(here: Bench) -> list[Row]:
    """The longest that another client's PING waits while 50 MB are saved, whole and then changed."""
    here.forget()
    one = Network(100_000)
    documents = [one.document]
    one.tick()
    documents.append(one.document)
    watcher = here.server.admin()
    idle = max(timed(watcher.ping) for _ in range(200))
    longest = _process_that_pings(here.server)
    writer = here.writer()
    for document in documents:
        save(writer, document)
        writer.settle()
    return [
        at_most(f"longest stall of another client while 50 MB are saved (idle: {idle:.1f} ms)", longest(), "ms", 15)
    ]


def _process_that_pings(server: TlsRedis) -> Callable[[], float]:
    """Start a process that pings without a pause; the answer ends it and gives its longest wait in ms."""
    program = (
        "import sys,time,select,redis\n"
        "c=redis.Redis(host='localhost',port=int(sys.argv[1]),username='admin',password=sys.argv[2],ssl=True,"
        "ssl_ca_certs=sys.argv[3])\n"
        "c.ping();print('ready',flush=True);w=0.0\n"
        "while not select.select([sys.stdin],[],[],0)[0]:\n"
        "  t=time.perf_counter();c.ping();w=max(w,time.perf_counter()-t)\n"
        "print(w*1000,flush=True)\n"
    )
    words = [sys.executable, "-c", program, str(server.port), server.admin_password, str(server.folder / "ca.crt")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise RuntimeError("the pinging process did not start")

    def end() -> float:
        out, _ = process.communicate("\n")
        return float(out)

    return end


def against_restic(here: Bench) -> list[Row]:
    """``restic backup --stdin`` of the same JSON: time of a save with 1 % changed, and growth per save."""
    restic = require("restic", "restic")
    here.forget()
    one = Network(NODES)
    writer = here.writer()
    save(writer, one.document)
    ours: list[float] = []
    theirs: list[float] = []
    grown_ours: list[int] = []
    grown_theirs: list[int] = []
    root = MEMBER.keys.root
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": folder,
            "RESTIC_CACHE_DIR": folder + "-c",
        }
        words = [restic, "backup", "--quiet", "--stdin", "--stdin-filename", "state.json"]
        subprocess.run([restic, "init", "--quiet"], env=environment, check=True)
        subprocess.run(words, env=environment, check=True, input=one.document)
        for _ in range(5):
            one.tick()
            document = one.document
            size, history_size = _folder_bytes(Path(folder)), here.history_bytes(f"{root}:base:*", f"{root}:delta:*")
            theirs.append(timed(partial(subprocess.run, words, env=environment, check=True, input=document)))
            ours.append(timed(partial(save, writer, document)))
            grown_theirs.append(_folder_bytes(Path(folder)) - size)
            grown_ours.append(here.history_bytes(f"{root}:base:*", f"{root}:delta:*") - history_size)
        shutil.rmtree(folder + "-c", ignore_errors=True)
    grow_ours, grow_theirs = statistics.median(grown_ours) / 1024, statistics.median(grown_theirs) / 1024
    return [
        faster(
            "save with 1 % changed (peer: restic backup --stdin)",
            statistics.median(ours),
            "ms",
            statistics.median(theirs),
            40,
        ),
        faster("growth per save (peer: restic)", grow_ours, "KB", grow_theirs, 100),
    ]


def _folder_bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def rows(say: Callable[[str], None]) -> Sequence[Row]:
    """All rows of this file; ``say`` tells what is measured now."""
    out: list[Row] = []
    with bench() as here:
        peer = Peer(here.server)
        try:
            for nodes, rounds, goals in ((NODES, ROUNDS, True), (1_000, ROUNDS, False), (100_000, 3, False)):
                say(f"saves of {nodes:,} nodes")
                out += saves(here, peer, nodes, rounds, goals=goals)
                say(f"restores of {nodes:,} nodes")
                out += restores(here, nodes, goals=goals)
            say("the memory of 100 snapshots")
            out += history(here, peer)
            say("the stall of another client")
            out += stall(here)
            say("restic")
            out += against_restic(here)
        finally:
            peer.close()
    return out


if __name__ == "__main__":
    from tests.bench.row import table

    print(table(rows(print)))
