"""A TLS connection to Redis that trusts one CA, and the translation of everything that can go wrong there.

The argument: ``rediss://`` only; the CA given is trusted *alone* (a client that adds it to the system's store would
accept any public certificate); the host name is checked; TLS 1.2 at least; a password is required. No blind retries: a
writer that sends a transaction twice without knowing breaks the history, so redis-py's own retries are off and the
caller decides by ``error.retry``.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from resonance.model.errors import InvalidInput, StoreBusy, StoreDamaged, StoreError, StoreRefused, StoreUnreachable
from resonance.store.place import Node, Place, read_place

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 5.0
"""For one send of at most :data:`PIECE_BYTES` or one read: 200 KB/s is the slowest link that works."""
PIECE_BYTES = 1024 * 1024

GUARDED_SCRIPT = files("resonance.store").joinpath("guarded.lua").read_text()


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are. ``repr`` shows no secret."""

    username: str | None
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where Redis is and how to prove who we are. ``repr`` shows no secret."""

    place: Place
    login: Login
    ca: str = field(repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    sentinel_login: Login | None = None
    """For the Sentinels, where they want another than Redis."""

    @property
    def address(self) -> str:
        """Where, for messages."""
        return self.place.address

    @property
    def database(self) -> int:
        return self.place.database


KEYS = (
    "url",
    "username",
    "password",
    "sentinel.username",
    "sentinel.password",
    "ca.crt",
    "tls.crt",
    "tls.key",
)
"""What a Secret may hold; only ``url``, ``password`` and ``ca.crt`` must be there."""


def read_settings(secret: Mapping[str, str]) -> StoreSettings:
    """Settings from the keys of a Secret. Raises :class:`InvalidInput` with the key, the value and the remedy.

    Keys: ``url`` (see :mod:`resonance.store.place`), ``password``, ``ca.crt``; optional ``username``, ``tls.crt``
    with ``tls.key``, and ``sentinel.password`` with ``sentinel.username`` for Sentinels that want another login.
    """
    place = read_place(secret.get("url", "").strip())
    if not secret.get("password"):
        raise InvalidInput("secret key password", "", "it is missing. Redis without AUTH is refused: set a password.")
    if "BEGIN CERTIFICATE" not in secret.get("ca.crt", ""):
        raise InvalidInput("secret key ca.crt", "", "it must hold the PEM certificate of the CA that signed Redis's.")
    if bool(secret.get("tls.crt")) != bool(secret.get("tls.key")):
        raise InvalidInput("secret key tls.crt", "", "tls.crt and tls.key go together. Give both or neither.")
    if secret.get("sentinel.username") and not secret.get("sentinel.password"):
        raise InvalidInput("secret key sentinel.password", "", "sentinel.username needs it. Give both or neither.")
    sentinel = _login(secret, "sentinel.") if secret.get("sentinel.password") else None
    certificate, key = secret.get("tls.crt") or None, secret.get("tls.key") or None
    return StoreSettings(place, _login(secret, ""), secret["ca.crt"], certificate, key, sentinel)


def _login(secret: Mapping[str, str], begin: str) -> Login:
    return Login(secret.get(f"{begin}username", "").strip() or None, secret[f"{begin}password"].strip())


def read_secret_directory(directory: Path) -> dict[str, str]:
    """The keys of a mounted Secret; empty when it is not there."""
    return {name: (directory / name).read_text() for name in KEYS if (directory / name).is_file()}


def trust(settings: StoreSettings) -> ssl.SSLContext:
    """A context that trusts the given CA alone. Raises :class:`StoreRefused` when a certificate cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=settings.ca)
        if settings.certificate and settings.key:
            with tempfile.TemporaryDirectory() as folder:  # the ssl module reads a key from files only
                for name, text in (("crt", settings.certificate), ("key", settings.key)):
                    path = Path(folder, name)
                    path.touch(mode=0o600)
                    path.write_text(text)
                context.load_cert_chain(Path(folder, "crt"), Path(folder, "key"))
    except (ssl.SSLError, ValueError) as error:
        raise StoreRefused("secret keys ca.crt, tls.crt, tls.key: a certificate or key cannot be read.") from error
    return context


class Births:
    """How often one thread's connection to one server was made; WAIT means nothing on one that was made anew."""

    def __init__(self) -> None:
        self.count = 0


class TrustedConnection(redis.SSLConnection):
    """redis-py's TLS connection with the context made above instead of one that also trusts the system's CAs."""

    def __init__(self, *, context: ssl.SSLContext, births: Births, **rest: Any) -> None:
        super().__init__(**rest)
        self._context = context
        self._births = births

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        self._births.count += 1
        try:
            return self._context.wrap_socket(sock, server_hostname=self.host)
        except TimeoutError:
            if _speaks_plain_text(self.host, self.port):
                raise PlainTextServer from None
            raise

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        try:
            super().on_connect_check_health(check_health)
        except redis.ConnectionError as error:
            hung_up = type(error) is redis.ConnectionError  # its children are answers
            alert = _alert_of(self.host, self.port, self._context) if hung_up else None
            if alert is not None:
                raise redis.ConnectionError(str(alert)) from alert
            raise


def _alert_of(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLError | None:
    """Why a server hangs up after the handshake. It says so once, and a greeting that meets the closed door misses it;
    who sends nothing hears it.
    """
    try:
        with (
            socket.create_connection((host, port), timeout=1) as plain,
            context.wrap_socket(plain, server_hostname=host) as probe,
        ):
            probe.recv(1)
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError as error:
        return error
    except OSError:
        return None
    return None


class PlainTextServer(OSError):
    """The port answers Redis's protocol without TLS."""


def _speaks_plain_text(host: str, port: int) -> bool:
    """Ask without telling anything: a Redis that waits for plain text leaves a TLS greeting unanswered."""
    try:
        with socket.create_connection((host, port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(1) in (b"+", b"-")
    except OSError:
        return False


def connect(
    node: Node,
    login: Login,
    context: ssl.SSLContext,
    *,
    database: int = 0,
    births: Births | None = None,
    greet: Callable[[Any], None] | None = None,
) -> redis.Redis:
    """A client; it connects at its first command. ``greet`` takes a new connection over instead of its own greeting."""
    pool = redis.ConnectionPool(
        connection_class=TrustedConnection,
        context=context,
        births=births if births is not None else Births(),
        host=node.host,
        port=node.port,
        db=database,
        username=login.username,
        password=login.password,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        client_name="resonance",
        driver_info=None,
        redis_connect_func=greet,
    )
    return redis.Redis(connection_pool=pool)


_BUSY = (
    "LOADING",
    "OOM",
    "READONLY",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MOVED",
    "ASK",
)
DELETE_IT = "Delete it: the next commit writes it anew."
_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "DENIED")


def translate(error: Exception, address: str) -> StoreError:
    """One of our errors for any error of redis-py, ssl or the socket; the text says host, reason and remedy."""
    chain = list(_causes(error))
    for each in chain:
        if isinstance(each, PlainTextServer):
            return StoreRefused(f"Redis at {address} refused: this port speaks plain text. Use its TLS port.")
        if isinstance(each, ssl.SSLError):
            return _translate_tls(each, address)
    text = str(error)
    word = text.split(" ", 1)[0]
    refused = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError)
    if isinstance(error, refused) or word in _REFUSED:
        remedy = "check the Secret's username and password and the user's ACL (docs/redis.md)"
        return StoreRefused(f"Redis at {address} refused: {_first_line(text)}; {remedy}.")
    if word == "WRONGTYPE":
        return StoreDamaged(f"{_first_line(text.partition(' ')[2])}. {DELETE_IT}")
    if isinstance(error, redis.exceptions.DataError | redis.exceptions.InvalidResponse):
        return StoreRefused(f"{address} does not speak the Redis protocol: {_first_line(text)}.")
    busy = word in _BUSY or isinstance(error, redis.exceptions.BusyLoadingError)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError) and not busy:
        return StoreUnreachable(f"Redis at {address} does not answer: {_first_line(text)}.")
    return StoreBusy(f"Redis at {address} cannot serve this now: {_first_line(text)}.")


def _translate_tls(error: ssl.SSLError, address: str) -> StoreError:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        remedy = "the Secret's ca.crt must be the CA that signed Redis's certificate, which must name this host"
        return StoreRefused(f"Redis at {address} refused: certificate verify failed ({why}); {remedy}.")
    reason = (error.reason or "TLS error").replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason:
        remedy = "it seems to speak plain text on this port. Use its TLS port"
        return StoreRefused(f"Redis at {address} refused: {reason}; {remedy}.")
    if "certificate required" in reason or "handshake failure" in reason or "unknown ca" in reason:
        remedy = "it wants a client certificate: check the Secret's tls.crt and tls.key"
        return StoreRefused(f"Redis at {address} refused: {reason}; {remedy}.")
    return StoreUnreachable(f"Redis at {address} does not answer: {reason}.")


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200].rstrip(".") if text.strip() else "no reason given"
