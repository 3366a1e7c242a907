"""Makes the certificates and the password of the quickstart Redis, once, and puts them where Redis reads them.

The argument: two Secrets, created in this order and never changed afterwards. `redis-server` holds everything;
`resonance-redis`, which users copy, is computed from it. So a start that died between the two, a second start at the
same time, or a deleted `resonance-redis` all end in the same two Secrets. For new ones, delete both and the pod.

The key of the certificate authority is thrown away at once: nobody can issue a second certificate that clients trust.

Needs openssl and the Python standard library; runs as an init container, with a token for this one job.
"""

import base64
import hashlib
import json
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
OUT = Path("/run/redis")
USER = "resonance"
PREFIX = "resonance"
DAYS = "3650"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
# Nobody can log in as the default user. But Redis replays its append-only file as it: without rights it would skip
# every transaction in there, and come back without the snapshots.
NOBODY = "user default off ~* &* +@all"
# What the agent, the operator and their scripts use, and nothing else.
COMMANDS = (
    "ping auth hello client|setname info time wait "
    "exists type del unlink rename expire persist "
    "get set setrange mget "
    "hset hget hmget hgetall hscan hdel hlen hexists "
    "lpush ltrim lrange lindex llen "
    "multi exec discard watch unwatch evalsha script|load script|exists"
)


class Secrets(Protocol):
    """The Secrets of one namespace. None of them is ever changed."""

    def read(self, name: str) -> dict[str, str] | None:
        """A Secret, decoded; None if there is none."""

    def create(self, name: str, content: Mapping[str, str]) -> bool:
        """Create a Secret; False if there is one of that name already."""


def main() -> None:
    """Make what is missing, then write the files that redis.conf names."""
    namespace = os.environ["POD_NAMESPACE"]
    server = ensure(KubernetesSecrets(namespace), namespace)
    write(OUT, server)


def ensure(kept: Secrets, namespace: str) -> dict[str, str]:
    """Make the two Secrets unless they are there, and give what the server needs. Any number of times, one result."""
    server = first(kept, "redis-server") or first(kept, "redis-server", new_server(namespace))
    first(kept, "resonance-redis") or first(kept, "resonance-redis", client_of(server, namespace))
    return server


def first(kept: Secrets, name: str, content: Mapping[str, str] | None = None) -> dict[str, str]:
    """The Secret as whoever came first made it, which may be us with this content; empty if nobody did."""
    if content is not None and kept.create(name, content):
        sys.stdout.write(f"made the Secret {name}\n")
    return kept.read(name) or {}


def new_server(namespace: str, host: str = "redis") -> dict[str, str]:
    """Everything that is decided once: an authority, a certificate for the names of the service, a password."""
    service = f"{host}.{namespace}.svc"
    hosts = [host, f"{host}.{namespace}", service, f"{service}.cluster.local", "localhost"]
    names = ",".join([f"DNS:{name}" for name in hosts] + ["IP:127.0.0.1"])
    with tempfile.TemporaryDirectory() as folder:
        authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        made = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=resonance-redis-ca", "-days", DAYS)
        openssl(folder, "req", "-x509", *CURVE, *made, *authority)
        openssl(folder, "req", *CURVE, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=resonance-redis")
        use = f"extendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\nsubjectAltName={names}\n"
        Path(folder, "extensions").write_text(use)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS, "-extfile", "extensions")
        openssl(folder, "x509", "-req", "-in", "tls.csr", "-out", "tls.crt", *signed)
        kept = {name: Path(folder, name).read_text() for name in ("ca.crt", "tls.crt", "tls.key")}
    return {**kept, "password": secrets.token_urlsafe(32)}


def client_of(server: Mapping[str, str], namespace: str) -> dict[str, str]:
    """What a policy's `store.secretRef` needs."""
    url = f"rediss://redis.{namespace}.svc:6379"
    return {"url": url, "username": USER, "password": server["password"], "ca.crt": server["ca.crt"]}


def users(password: str) -> str:
    """The ACL file: our user under its prefix, no channels, and nobody else."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    commands = " ".join(f"+{command}" for command in COMMANDS.split())
    return f"{NOBODY}\nuser {USER} on #{digest} resetchannels ~{PREFIX}:* -@all {commands}\n"


def write(folder: Path, server: Mapping[str, str]) -> None:
    """The files that redis.conf names, and the password for the readiness probe; readable for Redis alone."""
    content = {name: server[name] for name in ("ca.crt", "tls.crt", "tls.key", "password")}
    for name, text in {**content, "users.acl": users(server["password"])}.items():
        file = folder / name
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o400), "w") as out:
            out.write(text)


def openssl(folder: str, *words: str) -> None:
    """Run openssl; a failure shows what it said."""
    command = ["openssl", *words]  # from the image's own path; every word is ours
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise SystemExit(f"openssl {words[0]} failed: {done.stderr}")


class KubernetesSecrets:
    """The Secrets as the API server has them."""

    def __init__(self, namespace: str) -> None:
        self._url = f"https://kubernetes.default.svc/api/v1/namespaces/{namespace}/secrets"

    def read(self, name: str) -> dict[str, str] | None:
        """Get one."""
        try:
            kept = self._call("GET", f"/{name}")
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise
        return {key: base64.b64decode(value).decode() for key, value in kept["data"].items()}

    def create(self, name: str, content: Mapping[str, str]) -> bool:
        """Post one."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(content)}
        try:
            self._call("POST", "", secret)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    def _call(self, method: str, path: str, body: object = None) -> dict[str, dict[str, str]]:
        headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310  # https, above
        trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        with urllib.request.urlopen(request, context=trust, timeout=20) as answer:  # noqa: S310
            kept: dict[str, dict[str, str]] = json.loads(answer.read())
        return kept


if __name__ == "__main__":
    main()
