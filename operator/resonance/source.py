"""Reading the state out of a live process: one HTTP GET, bounded in time and size (docs/contract.md).

The timeout bounds the whole answer: a socket's own timeout begins anew with each byte, so a timer ends the connection
of an app that trickles. One connection is kept open; a request that meets a connection which the app has closed
meanwhile is sent once more, which is safe for a GET. A certificate of the app is not verified, as the kubelet's
probes do not either: the peer is named by the pod's own address.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

from resonance.model.commit import Proof
from resonance.model.errors import CaptureFailed, InvalidInput, SourceNotReady, StateTooLarge

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Export:
    """One answer of the app. ``document`` is None when it said 304: unchanged since ``etag``.

    ``connection`` numbers the connection that it came over: another number may be another process.
    """

    document: bytes | None
    proof: Proof | None
    etag: str | None
    connection: int = 0


class Source(Protocol):
    """Where states come from."""

    def read(self, etag: str | None) -> Export:
        """The current state, or "unchanged since ``etag``". Raises :class:`CaptureFailed` and its children."""

    def close(self) -> None:
        """Give the connection back."""


class HttpSource:
    """The app's export over HTTP(S)."""

    def __init__(self, url: str, *, timeout: timedelta, max_bytes: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("source", url, "give http://host:port/path or https://host:port/path.")
        self.url = url
        self._path = parts.path or "/"
        self._max_bytes = max_bytes
        self._timeout = timeout.total_seconds()
        self._connections = 0
        self._socket: socket.socket | None = None
        self._late = False
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self._timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._timeout)

    def read(self, etag: str | None) -> Export:
        """One GET. ``StateTooLarge`` stops reading at ``maxBytes``; ``SourceNotReady`` for 503."""
        self._late = False
        timer = threading.Timer(self._timeout, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            return self._read(etag)
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        """In the timer's thread: whoever waits for the app's next byte wakes up."""
        self._late = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self, etag: str | None) -> Export:
        reused = self._connection.sock is not None
        try:
            return self._get(etag)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            stale = reused and isinstance(
                error, http.client.RemoteDisconnected | BrokenPipeError | ConnectionResetError
            )
            if not stale or self._late:
                raise self._failed(error) from error
        try:
            return self._get(etag)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> CaptureFailed:
        late = self._late or isinstance(error, TimeoutError)
        why = f"timed out after {self._timeout:g} s" if late else (str(error) or type(error).__name__)
        return CaptureFailed(f"GET {self.url}: {why}. Check spec.source.http and that the app serves its state there.")

    def _get(self, etag: str | None) -> Export:
        headers = {"Accept": "application/json"} | ({"If-None-Match": etag} if etag else {})
        if self._connection.sock is None:
            self._connection.connect()
            self._connections += 1
            self._socket = self._connection.sock
        self._connection.request("GET", self._path, headers=headers)
        answer = self._connection.getresponse()
        if answer.status == http.client.NOT_MODIFIED and etag:
            answer.read()
            return Export(None, _proof(answer), etag, self._connections)
        if answer.status != http.client.OK:
            self.close()
            if answer.status == http.client.SERVICE_UNAVAILABLE:
                raise SourceNotReady(f"GET {self.url}: 503, the app does not want to be captured now.")
            raise CaptureFailed(f"GET {self.url}: status {answer.status}. The app must answer 200 with its state.")
        return Export(self._body(answer), _proof(answer), answer.getheader("ETag"), self._connections)

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        if answer.length is None:
            out = self._pieces(answer)
        elif answer.length > self._max_bytes:
            self._too_large(answer.length)
        else:  # at once: the only copy that there is
            out = answer.read(answer.length)
        if self._late:
            raise http.client.HTTPException("late")
        if answer.length:
            self.close()
            raise CaptureFailed(f"GET {self.url}: the answer was cut {answer.length} bytes early.")
        return out

    def _pieces(self, answer: http.client.HTTPResponse) -> bytes:
        """A body that does not say how long it is."""
        out = bytearray()
        while piece := answer.read(_PIECE):
            out += piece
            if len(out) > self._max_bytes:
                self._too_large(len(out))
        return bytes(out)

    def _too_large(self, size: int) -> NoReturn:
        self.close()
        remedy = "raise spec.source.http.maxBytes or export less"
        raise StateTooLarge(f"GET {self.url}: {size} bytes or more, maxBytes is {self._max_bytes}; {remedy}.")

    def close(self) -> None:
        """Close the connection; the next read opens a new one."""
        self._connection.close()


def _proof(answer: http.client.HTTPResponse) -> Proof | None:
    incarnation = (answer.getheader("Resonance-Incarnation") or "").strip()
    restored = (answer.getheader("Resonance-Restored-From") or "").strip()
    if not incarnation or not restored:
        return None
    return Proof(incarnation[:128], None if restored.lower() == "none" else restored[:256])
