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
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
OUT = Path("/run/redis")
NAMESPACE = os.environ["POD_NAMESPACE"]
SERVICE = "redis"
HOST = f"{SERVICE}.{NAMESPACE}.svc"
USER = "resonance"
PREFIX = "resonance"
DAYS = "3650"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
# What the agent, the operator and their scripts use, and nothing else; keys under the prefix only, no channels.
COMMANDS = (
    "ping auth hello client|setname info time wait "
    "exists type del unlink rename expire persist "
    "get set mget setrange strlen getrange "
    "hset hget hmget hgetall hscan hdel hlen hexists "
    "lpush ltrim lrange lindex llen "
    "multi exec discard watch unwatch evalsha script|load script|exists"
)


def main() -> None:
    """Make what is missing, then write the files that redis.conf names."""
    server = read("redis-server") or create("redis-server", new_server())
    read("resonance-redis") or create("resonance-redis", client_of(server))
    password = server["password"]
    acl = " ".join(f"+{command}" for command in COMMANDS.split())
    digest = hashlib.sha256(password.encode()).hexdigest()
    # Off: nobody logs in as it. But Redis replays its append-only file as the default user, and without rights that
    # skips every transaction in there: a restart would lose the snapshots.
    nobody = "user default off ~* &* +@all"
    write("users.acl", f"{nobody}\nuser {USER} on #{digest} resetchannels ~{PREFIX}:* -@all {acl}\n")
    write("password", password)
    for name in ("ca.crt", "tls.crt", "tls.key"):
        write(name, server[name])


def new_server() -> dict[str, str]:
    """Everything that is decided once: an authority, a certificate for the names of the service, a password."""
    short = [SERVICE, f"{SERVICE}.{NAMESPACE}", HOST, f"{HOST}.cluster.local", "localhost"]
    names = ",".join([f"DNS:{name}" for name in short] + ["IP:127.0.0.1"])
    with tempfile.TemporaryDirectory() as folder:
        authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        made = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=resonance-redis-ca", "-days", DAYS)
        openssl(folder, "req", "-x509", *CURVE, *made, *authority)
        openssl(folder, "req", *CURVE, "-keyout", "tls.key", "-out", "tls.csr", "-subj", f"/CN={HOST}")
        use = f"extendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\nsubjectAltName={names}\n"
        Path(folder, "extensions").write_text(use)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS, "-extfile", "extensions")
        openssl(folder, "x509", "-req", "-in", "tls.csr", "-out", "tls.crt", *signed)
        kept = {name: Path(folder, name).read_text() for name in ("ca.crt", "tls.crt", "tls.key")}
    return {**kept, "password": secrets.token_urlsafe(32)}


def client_of(server: Mapping[str, str]) -> dict[str, str]:
    """What a policy's `store.secretRef` needs."""
    return {
        "url": f"rediss://{HOST}:6379",
        "username": USER,
        "password": server["password"],
        "ca.crt": server["ca.crt"],
    }


def openssl(folder: str, *words: str) -> None:
    """Run openssl; a failure shows what it said."""
    command = ["openssl", *words]  # from the image's own path; every word is ours
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise SystemExit(f"openssl {words[0]} failed: {done.stderr}")


def read(name: str) -> dict[str, str] | None:
    """A Secret of this namespace, decoded; None if there is none."""
    try:
        kept = call("GET", f"/{name}")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    return {key: base64.b64decode(value).decode() for key, value in kept["data"].items()}


def create(name: str, content: Mapping[str, str]) -> dict[str, str]:
    """Create a Secret. If another start was faster, give what that one made."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(content)}
    try:
        call("POST", "", secret)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        return read(name) or {}
    sys.stdout.write(f"made the Secret {name}\n")
    return dict(content)


def call(method: str, path: str, body: object = None) -> dict[str, dict[str, str]]:
    """One request to the Secrets of this namespace."""
    url = f"https://kubernetes.default.svc/api/v1/namespaces/{NAMESPACE}/secrets{path}"
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=trust, timeout=20) as answer:  # noqa: S310  # https, above
        kept: dict[str, dict[str, str]] = json.loads(answer.read())
    return kept


def write(name: str, content: str) -> None:
    """A file that only Redis can read."""
    file = OUT / name
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o400), "w") as out:
        out.write(content)


if __name__ == "__main__":
    main()
