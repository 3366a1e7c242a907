"""A primary with a replica and three Sentinels, and a Cluster: real processes on loopback, TLS and AUTH everywhere.

Both have the interface of :class:`tests.redis_server.TlsRedis`, where ``admin`` is the primary's, so that the suites of
one server run against them too.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import redis
import trustme
from redis.crc import key_slot

from resonance.store.connection import StoreSettings, read_settings
from tests.redis_server import ACL, CLUSTER_ACL, NOBODY, SENTINEL_ACL, free_port, require_redis_server

T = TypeVar("T")
PATIENCE_S = 60.0


def eventually(found: Callable[[], T | None]) -> T:
    """The first answer that is neither None nor False; no answer of a server is no answer. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            answer = found()
        except redis.RedisError as error:
            answer, last = None, error
        if answer is not None and answer is not False:
            return answer
        time.sleep(0.02)
    raise TimeoutError(f"{found} never came true ({last})")


class Keys:
    """One authority, one certificate for all, and the passwords of the users."""

    def __init__(self, *, prefix: str, more_rights: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="resonance-places-"))
        self.password = secrets.token_hex(16)
        self.admin_password = secrets.token_hex(16)
        ca = trustme.CA()
        certificate = ca.issue_cert("localhost", "127.0.0.1")
        ca.cert_pem.write_to_path(self.folder / "ca.crt")
        certificate.private_key_pem.write_to_path(self.folder / "tls.key")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "tls.crt")
        self.users = (
            f"{NOBODY}\nuser resonance on >{self.password} {ACL.format(prefix=prefix)}{more_rights}\n"
            f"user admin on >{self.admin_password} ~* &* +@all\n"
        )

    def tls(self) -> dict[str, object]:
        """The options that every process has."""
        where = self.folder
        files = {"tls-cert-file": where / "tls.crt", "tls-key-file": where / "tls.key"}
        return {**files, "tls-ca-cert-file": where / "ca.crt", "tls-auth-clients": "no", "bind": "127.0.0.1", "port": 0}

    def secret(self, url: str) -> dict[str, str]:
        ca = (self.folder / "ca.crt").read_text()
        return {"url": url, "username": "resonance", "password": self.password, "ca.crt": ca}


class Process:
    """One redis-server, as a data server or as a Sentinel."""

    def __init__(self, keys: Keys, name: str, config: str, *arguments: str) -> None:
        self.keys = keys
        self.port = free_port()
        self.folder = keys.folder / name
        self.folder.mkdir()
        self._config = config
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None

    def admin(self) -> Any:
        """A client that may do everything."""
        if self._admin is None:
            self._admin = redis.Redis(
                host="localhost",
                port=self.port,
                username="admin",
                password=self.keys.admin_password,
                ssl=True,
                ssl_ca_certs=str(self.keys.folder / "ca.crt"),
                socket_timeout=5,
            )
        return self._admin

    def start(self, config: str = "") -> None:
        """Start with what was configured first, a Sentinel with what it wrote itself since; wait until it answers."""
        path = self.folder / "redis.conf"
        if not path.exists():
            path.write_text(config or self._config)
        with (self.folder / "log").open("ab") as log:
            command = [require_redis_server(), str(path), "--tls-port", str(self.port), *self._arguments]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._answers)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"redis-server ended:\n{(self.folder / 'log').read_text()[-2000:]}")
        return bool(self.admin().ping())

    def signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("this process does not run")
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and the client."""
        self.kill()
        if self._admin is not None:
            self._admin.close()


def configured(options: Mapping[str, object], lines: Sequence[str] = ()) -> str:
    """A configuration file."""
    return "\n".join([*(f"{name} {value}" for name, value in options.items()), *lines]) + "\n"


class Place:
    """Processes that belong together. Use as a context manager."""

    keys: Keys
    url: str
    processes: list[Process]

    @property
    def secret(self) -> dict[str, str]:
        """The keys of a Secret for this place."""
        return self.keys.secret(self.url)

    @property
    def password(self) -> str:
        return self.keys.password

    @property
    def settings(self) -> StoreSettings:
        """The same, parsed."""
        return read_settings(self.secret)

    def changed(self, changes: Mapping[str, str]) -> StoreSettings:
        """Settings with some keys of the Secret replaced."""
        return read_settings({**self.secret, **changes})

    def start(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process and forget what they wrote."""
        for each in self.processes:
            with contextlib.suppress(OSError):
                each.close()
        shutil.rmtree(self.keys.folder, ignore_errors=True)


def data_options(keys: Keys) -> dict[str, object]:
    """A data server that replicates over TLS, and gives up nothing that it acknowledged while it lives."""
    (keys.folder / "users.acl").write_text(keys.users)
    return {
        **keys.tls(),
        "aclfile": keys.folder / "users.acl",
        "tls-replication": "yes",
        "masteruser": "admin",
        "masterauth": keys.admin_password,
        "appendonly": "yes",
        "save": '""',
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": 0,
        "repl-timeout": 5,
        "maxmemory-policy": "noeviction",
    }


class TlsSentinel(Place):
    """``data[0]`` begins as the primary, ``data[1]`` as its replica; any two of three Sentinels decide."""

    NAME = "web"

    def __init__(self, *, prefix: str = "resonance", replicas: int = 1) -> None:
        self.keys = Keys(prefix=prefix)
        self.sentinel_password = secrets.token_hex(16)
        options = data_options(self.keys)
        self.data = []
        for index in range(1 + replicas):
            process = Process(self.keys, f"data{index}", "", "--dir", str(self.keys.folder / f"data{index}"))
            self.data.append(process)
        for index, process in enumerate(self.data):
            follow = [f"replicaof 127.0.0.1 {self.data[0].port}"] if index else []
            process._config = configured(options, follow)
        self.sentinels = [Process(self.keys, f"sentinel{n}", self._watching(), "--sentinel") for n in range(3)]
        self.processes = [*self.sentinels, *self.data]
        self.url = f"rediss+sentinel://{','.join(f'localhost:{each.port}' for each in self.sentinels)}/{self.NAME}"

    def _watching(self) -> str:
        peer = self.keys.admin_password
        return configured(
            {**self.keys.tls(), "tls-replication": "yes"},
            [
                "user default off",
                f"user admin on >{peer} ~* &* +@all",
                f"user looking on >{self.sentinel_password} {SENTINEL_ACL}",
                "sentinel sentinel-user admin",
                f"sentinel sentinel-pass {peer}",
                f"sentinel monitor {self.NAME} 127.0.0.1 {self.data[0].port} 2",
                f"sentinel auth-user {self.NAME} admin",
                f"sentinel auth-pass {self.NAME} {peer}",
                f"sentinel down-after-milliseconds {self.NAME} 1000",
                f"sentinel failover-timeout {self.NAME} 10000",
            ],
        )

    @property
    def secret(self) -> dict[str, str]:
        """With a login of its own for the Sentinels."""
        own = {"sentinel.username": "looking", "sentinel.password": self.sentinel_password}
        return {**super().secret, **own}

    def start(self) -> None:
        """Start everything and wait until the Sentinels know each other and the replicas."""
        for each in (*self.data, *self.sentinels):
            each.start()
        eventually(lambda: all(self._knows(each) for each in self.sentinels))
        eventually(
            lambda: all(each.admin().info("replication")["master_link_status"] == "up" for each in self.data[1:])
        )

    def _knows(self, sentinel: Process) -> bool:
        # A name of this code base's own for what Sentinel calls its master would only hide which command is sent.
        said = sentinel.admin().execute_command("SENTINEL", "MASTER", self.NAME)
        said = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
        text = {_text(name): _text(value) for name, value in said.items()}
        return text["num-other-sentinels"] == "2" and int(text["num-slaves"]) >= len(self.data) - 1

    def primary(self) -> Process:
        """The process that says it is the primary, and that the others follow or nobody else claims to be."""

        def found() -> Process | None:
            for each in self.data:
                with contextlib.suppress(redis.RedisError):
                    if each.admin().info("replication")["role"] == "master":
                        return each
            return None

        return eventually(found)

    def admin(self) -> Any:
        """The primary's."""
        return self.primary().admin()

    def kill(self) -> None:
        """Kill the primary; the Sentinels will promote a replica."""
        self.primary().kill()


class TlsCluster(Place):
    """Three primaries, the first ``replicas`` of them with one replica each; its nodes are known by host name."""

    def __init__(self, *, prefix: str = "resonance", replicas: int = 0) -> None:
        self.keys = Keys(prefix=prefix, more_rights=CLUSTER_ACL)
        options = {
            **data_options(self.keys),
            "tls-cluster": "yes",
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": 1000,
            "cluster-announce-hostname": "localhost",
            "cluster-preferred-endpoint-type": "hostname",
            "cluster-replica-validity-factor": 0,
        }
        self.processes = []
        self.bus = []
        for index in range(3 + replicas):
            self.bus.append(free_port())
            arguments = ["--dir", str(self.keys.folder / f"node{index}"), "--cluster-port", str(self.bus[-1])]
            self.processes.append(Process(self.keys, f"node{index}", configured(options), *arguments))
        self._replicas = replicas
        self.url = f"rediss+cluster://{','.join(f'localhost:{each.port}' for each in self.processes[:2])}"

    @property
    def primaries(self) -> list[Process]:
        return self.processes[:3]

    def start(self) -> None:
        """Start everything, share the slots out and wait until every node agrees."""
        bounds = [0, 5461, 10923, 16384]
        for index, each in enumerate(self.processes):
            each.start()
            each.admin().execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            if index < 3:
                each.admin().execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
        for each, bus in list(zip(self.processes, self.bus, strict=True))[1:]:
            self.processes[0].admin().execute_command("CLUSTER", "MEET", "127.0.0.1", each.port, bus)
        eventually(lambda: all(self._agrees(each) for each in self.processes))
        for replica, of in zip(self.processes[3:], self.primaries, strict=False):
            eventually(lambda replica=replica, of=of: self._follows(replica, of))  # type: ignore[misc]
            eventually(lambda each=replica: each.admin().info("replication")["master_link_status"] == "up")  # type: ignore[misc]

    def _follows(self, replica: Process, of: Process) -> bool:
        replica.admin().execute_command("CLUSTER", "REPLICATE", self.id_of(of))
        return True

    def _agrees(self, node: Process) -> bool:
        text = _text(node.admin().execute_command("CLUSTER", "INFO"))
        return "cluster_state:ok" in text and f"cluster_known_nodes:{len(self.processes)}" in text

    def id_of(self, node: Process) -> str:
        """The name that the Cluster knows it by."""
        return _text(node.admin().execute_command("CLUSTER", "MYID"))

    def owner(self, key: str) -> Process:
        """The primary that serves this key now, as the first living node knows it."""
        slot = key_slot(key.encode())

        def found() -> Process | None:
            for asked in self.processes:
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    for first, last, (_, port, *_rest), *_others in asked.admin().execute_command("CLUSTER", "SLOTS"):
                        if int(first) <= slot <= int(last):
                            return next(each for each in self.processes if each.port == int(port))
            return None

        return eventually(found)

    def move(self, key: str, to: Process) -> None:
        """Migrate the key's slot to another primary, key by key, as a resharding does."""
        slot, source = self._begin_move(key, to)
        self._end_move(slot, source, to)

    @contextlib.contextmanager
    def half_moved(self, key: str, to: Process) -> Iterator[None]:
        """Only this key of the slot is at the other primary meanwhile; the rest follows at the end."""
        slot, source = self._begin_move(key, to)
        self._send(key, source, to)
        yield
        self._end_move(slot, source, to)

    def _begin_move(self, key: str, to: Process) -> tuple[int, Process]:
        slot, source = key_slot(key.encode()), self.owner(key)
        to.admin().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.admin().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        return slot, source

    def _end_move(self, slot: int, source: Process, to: Process) -> None:
        while names := source.admin().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            self._send(names[0], source, to)
        others = [each for each in self.primaries if each not in {to, source}]
        for each in (to, source, *others):
            each.admin().execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def _send(self, name: str | bytes, source: Process, to: Process) -> None:
        login = ["AUTH2", "admin", self.keys.admin_password]
        with contextlib.suppress(redis.ResponseError):  # it has just been renamed or dropped
            source.admin().execute_command("MIGRATE", "127.0.0.1", to.port, name, 0, 5000, *login)

    def admin(self) -> Any:
        """Something that can flush every primary."""
        return _Everywhere([each.admin() for each in self.primaries])


class _Everywhere:
    """The one command of the suites that concerns all primaries."""

    def __init__(self, clients: Sequence[Any]) -> None:
        self._clients = clients

    def flushall(self) -> None:
        for each in self._clients:
            each.flushall()


def _text(raw: object) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)
