"""A real TLS Redis with AUTH and the least-privilege user, as the tests and benches of storage need it.

One process a server, on loopback, in a folder of its own. The certificates are made by ``trustme``; the user's rights
are those that ``docs/redis.md`` tells people to give.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis
import trustme

from resonance.store.connection import StoreSettings, read_settings
from tests.programs import require

ACL = (
    "resetchannels ~{prefix}* -@all +ping +auth +hello +client|setname +info +time +wait"
    " +hset +hget +hmget +hgetall +hscan +hdel +hlen +hexists +get +set +setrange +mget +exists +type"
    " +del +unlink +rename +expire +persist +lpush +ltrim +lrange +lindex +llen"
    " +multi +exec +discard +watch +unwatch +evalsha +script|load +script|exists"
)
"""What the agent and the operator need, and nothing else."""

JSON_ACL = "+json.set"
"""What it needs besides where the server has RedisJSON, for readable metrics as JSON; other servers know no such
command.
"""

CLUSTER_ACL = " +cluster|slots +asking"
"""What it needs besides on a Cluster."""

SENTINEL_ACL = "resetchannels -@all +ping +auth +hello +client|setname +sentinel|master"
"""What it needs of a Sentinel."""

NOBODY = "user default off ~* &* +@all"
"""Nobody can log in as the default user, but Redis replays its append-only file as it: without rights it would skip
every transaction in there (error NOPERM in its log) and come back without the snapshots."""

_START_S = 10


def free_port() -> int:
    """A port that nobody listens on now, below those that the system gives to clients: none of them takes it before
    the server that it is meant for.
    """
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def require_redis_server() -> str:
    """The path of ``redis-server``, installed where that is possible."""
    return require("redis-server", "redis-server")


class TlsRedis:
    """One Redis. ``secret`` is what a Secret for it holds. Use as a context manager."""

    def __init__(self, *, options: Sequence[str] = (), prefix: str = "resonance", plaintext: bool = False) -> None:
        self._program = require_redis_server()
        self.folder = Path(tempfile.mkdtemp(prefix="resonance-redis-"))
        self.port = free_port()
        self.plain_port = free_port() if plaintext else 0
        self.password = secrets.token_hex(16)
        self.admin_password = secrets.token_hex(16)
        self.ca = trustme.CA()
        self._options = list(options)
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None
        certificate = self.ca.issue_cert("localhost", "127.0.0.1")
        self.ca.cert_pem.write_to_path(self.folder / "ca.crt")
        certificate.private_key_pem.write_to_path(self.folder / "tls.key")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "tls.crt")
        (self.folder / "users.acl").write_text(
            f"{NOBODY}\nuser resonance on >{self.password} {ACL.format(prefix=prefix)}\n"
            f"user admin on >{self.admin_password} ~* &* +@all\n"
        )

    @property
    def secret(self) -> dict[str, str]:
        """The keys of a Secret for this server."""
        return {
            "url": f"rediss://localhost:{self.port}",
            "username": "resonance",
            "password": self.password,
            "ca.crt": (self.folder / "ca.crt").read_text(),
        }

    @property
    def settings(self) -> StoreSettings:
        """The same, parsed."""
        return read_settings(self.secret)

    def changed(self, changes: Mapping[str, str]) -> StoreSettings:
        """Settings with some keys of the Secret replaced."""
        return read_settings({**self.secret, **changes})

    def start(self) -> None:
        """Start and wait until it answers. A second start goes on from the same data."""
        where = self.folder
        command = [
            self._program,
            "--bind",
            "127.0.0.1",
            "127.0.0.2",
            "--port",
            str(self.plain_port),
            "--tls-port",
            str(self.port),
        ]
        command += ["--tls-cert-file", f"{where}/tls.crt", "--tls-key-file", f"{where}/tls.key"]
        command += ["--tls-ca-cert-file", f"{where}/ca.crt", "--tls-auth-clients", "no", "--dir", str(where)]
        command += ["--aclfile", f"{where}/users.acl", "--appendonly", "yes", "--appendfsync", "everysec"]
        command += ["--maxmemory-policy", "noeviction", "--save", "", *self._options]
        with (where / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(redis.RedisError):
                self.admin().ping()
                return
            time.sleep(0.02)
        raise RuntimeError(f"redis-server did not start:\n{(where / 'log').read_text()[-2000:]}")

    def admin(self) -> redis.Redis:
        """A client that may do everything, for looking and for damage; closed with the server."""
        if self._admin is None:
            self._admin = redis.Redis(
                host="localhost",
                port=self.port,
                username="admin",
                password=self.admin_password,
                ssl=True,
                ssl_ca_certs=str(self.folder / "ca.crt"),
            )
        return self._admin

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server process."""
        if self._process is None:
            raise RuntimeError("this Redis does not run")
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> TlsRedis:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.kill()
        if self._admin is not None:
            self._admin.close()
        shutil.rmtree(self.folder, ignore_errors=True)
