"""A TCP proxy that harms connections at chosen moments. TLS goes through it untouched.

It counts bytes of both directions since a fault was armed, and knows nothing of what they mean. A fault strikes once:
when the server answers (the request was then carried out), after so many bytes of a request, or by holding an answer
back. The certificate names the host and not the port, so clients connect to the proxy as to the server itself.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)


class Harm(StrEnum):
    """What a fault does when it strikes."""

    DROP_REPLY = "drop-reply"
    """The server's answer never arrives; the client's connection is reset."""
    HOLD_REPLY = "hold-reply"
    """The server's answer and all after it stay in the proxy until the client gives up."""
    CUT_REQUEST = "cut-request"
    """Both connections are reset after so many bytes of the request."""


@dataclass(frozen=True, slots=True)
class Blow:
    """``harm`` strikes after ``after`` more bytes in its direction have gone through."""

    harm: Harm
    after: int = 0


class FaultProxy:
    """Listens on a port of its own before ``target``, both on loopback. Use as a context manager.

    ``struck`` counts the faults that came about, ``requested`` the bytes that clients sent.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._blow: Blow | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.struck = 0
        self.requested = 0
        self._left = 0
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._stopping = False

    def arm(self, blow: Blow) -> None:
        """The next bytes that fit meet this fault, once."""
        with self._lock:
            self._blow, self._left = blow, blow.after

    def disarm(self) -> None:
        """No fault any more, if none has struck."""
        with self._lock:
            self._blow = None

    def _strikes(self, size: int, *, reply: bool) -> tuple[Harm, int] | None:
        """What these ``size`` bytes meet and how many of them still get through; None for nothing."""
        with self._lock:
            self.requested += 0 if reply else size
            blow = self._blow
            if blow is None or (blow.harm is Harm.CUT_REQUEST) is reply:
                return None
            if size <= self._left:
                self._left -= size
                return None
            self._blow = None
            self.struck += 1
            return blow.harm, self._left

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", self._target))
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._carry, args=(client, server), daemon=True)
                self._open |= {client, server}
                self._threads.append(thread)
                thread.start()
                continue
            client.close()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry bytes both ways until one side ends or a fault strikes."""
        try:
            with selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
                ready.register(client, selectors.EVENT_READ, server)
                ready.register(server, selectors.EVENT_READ, client)
                while not self._stopping:
                    for key, _ in ready.select(timeout=0.5):
                        source, sink = key.fileobj, key.data
                        if not isinstance(source, socket.socket) or not self._move(source, sink, source is server):
                            return
        finally:
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.close()

    def _move(self, source: socket.socket, sink: socket.socket, reply: bool) -> bool:
        piece = source.recv(_CHUNK)
        if not piece:
            return False
        met = self._strikes(len(piece), reply=reply)
        if met is None:
            sink.sendall(piece)
            return True
        harm, through = met
        sink.sendall(piece[:through])
        if harm is Harm.HOLD_REPLY:
            sink.settimeout(30)
            while sink.recv(_CHUNK):  # whatever the client still says goes nowhere
                pass
        return False

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)
