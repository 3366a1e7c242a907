"""The agent's HTTP face on the pod's address: flush for the kubelet's preStop hooks, health, metrics.

A flush always answers, and always with 200: the kubelet takes any answer as done, and a hook that hangs would eat the
pod's whole grace period. What the flush came to is in the body, the metrics and the report.
"""

from __future__ import annotations

import json
import socket
import socketserver
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from resonance.agent.bell import Bell, Flushed
from resonance.agent.figures import Page


class _Handler(BaseHTTPRequestHandler):
    """One request, then the connection is closed."""

    timeout = 10
    server_version = "resonance-agent"
    sys_version = ""

    def __init__(self, bell: Bell, page: Page, within: float, *rest: Any) -> None:
        self._bell = bell
        self._page = page
        self._within = within
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answer one of three pages."""
        path = self.path.partition("?")[0]
        if path == "/flush":
            self._flush()
        elif path == "/healthz":
            self._send(200, "text/plain", b"ok\n")
        elif path == "/metrics":
            self._send(200, "text/plain; version=0.0.4; charset=utf-8", self._page.text())
        else:
            self._send(404, "text/plain", b"there are /flush, /healthz and /metrics\n")

    def do_POST(self) -> None:
        """Only a flush is something to do."""
        if self.path.partition("?")[0] == "/flush":
            self._flush()
        else:
            self._send(404, "text/plain", b"there is /flush\n")

    def _flush(self) -> None:
        answer = self._bell.flush(self._within) or Flushed("TimedOut", message="the deadline of the hook is over")
        body = {"outcome": answer.outcome, "id": answer.id, "message": answer.message}
        self._send(200, "application/json", json.dumps(body).encode() + b"\n")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The kubelet's calls are in our own events."""


class Endpoint(socketserver.ThreadingTCPServer):
    """Listens on every address of the pod, both families where there are two."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, bell: Bell, page: Page, within: float) -> None:
        self._make: Callable[..., BaseHTTPRequestHandler] = lambda *rest: _Handler(bell, page, within, *rest)
        both = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both else socket.AF_INET
        super().__init__(("::" if both else "0.0.0.0", port), self._make)

    def server_bind(self) -> None:
        """Accept IPv4 too."""
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, *_: object) -> None:
        """A caller went away before its answer: nothing to do."""
