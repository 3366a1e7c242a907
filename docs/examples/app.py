"""An app that keeps its state across restarts: the whole of its side of the contract. Try `curl localhost:8080/`."""

import json
import os
import secrets
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

file = Path(os.environ.get("RESONANCE_RESTORE_FILE") or os.devnull)
state = json.loads(file.read_bytes()) if file.is_file() else {"nodes": {"a": {"phase": 0.25}}, "metrics": {"visits": 0}}
restored_from = state.pop("snapshot", {"id": "none"})["id"]
incarnation = secrets.token_hex(8)


class App(BaseHTTPRequestHandler):
    """Counts its visits; exports its state."""

    def do_GET(self) -> None:
        """Every page but the export is a visit and changes the state."""
        state["metrics"]["visits"] += self.path != "/resonance/state"
        self.send_response(200)
        self.send_header("Resonance-Incarnation", incarnation)
        self.send_header("Resonance-Restored-From", restored_from)
        self.end_headers()
        self.wfile.write(json.dumps(state).encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container must say so itself
HTTPServer(("", int(os.environ.get("PORT", "8080"))), App).serve_forever()
