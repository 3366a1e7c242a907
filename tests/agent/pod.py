"""A pod without Kubernetes: its two files' folder, its Secret, its app and its two agent containers as processes.

What a test needs to know it reads where users would: the agent's events and metrics, the restore file, and Redis.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from resonance.codec import encode_state
from resonance.model.naming import WorkloadKeys, workload_keys
from resonance.model.report import Report
from resonance.store.member import Member, load
from resonance.store.redis_keyspace import RedisKeyspace
from resonance.store.restore import restore
from resonance.store.workload import PolicyRecord, write_policy
from tests.apps.process import PYTHON_NETWORK, App, eventually, free_port
from tests.redis_server import TlsRedis

AGENT = (sys.executable, "-m", "resonance.agent.main")


class Pod(AbstractContextManager["Pod"]):
    """One pod. ``namespace`` keeps tests apart; ``environment`` overrides what the injection would write."""

    def __init__(
        self,
        secret: Mapping[str, str],
        namespace: str,
        *,
        name: str = "web-0",
        workload: str = "StatefulSet.web",
        **environment: str,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="resonance-pod-"))
        self.shared, self.secret = self.folder / "resonance", self.folder / "secret"
        self.shared.mkdir()
        self.secret.mkdir()
        self.mount(secret)
        self.name, self.uid = name, uuid.uuid4().hex
        self.app_port, self.agent_port = free_port(), free_port()
        self.apps: list[App] = []
        self.agents: list[subprocess.Popen[bytes]] = []
        self.restore_file, self.final_file = self.shared / "restore.json", self.shared / "final.json"
        self._output = self.folder / "agent.log"
        self.environment = {
            **os.environ,
            "RESONANCE_POLICY": "web",
            "RESONANCE_WORKLOAD": workload,
            "RESONANCE_IDENTITY": "PodName",
            "RESONANCE_TEMPLATE": "t1",
            "RESONANCE_SOURCE": f"http://127.0.0.1:{self.app_port}/resonance/state",
            "RESONANCE_EVERY": "1s",
            "RESONANCE_CLUSTER": "here",
            "POD_NAME": name,
            "POD_UID": self.uid,
            "POD_NAMESPACE": namespace,
            "NODE_NAME": "node-a",
            "RESONANCE_DIR": str(self.shared),
            "RESONANCE_STORE_DIR": str(self.secret),
            **environment,
        }

    def mount(self, secret: Mapping[str, str]) -> None:
        """Mount the Secret with these keys and no others."""
        for old in self.secret.iterdir():
            if old.name not in secret:
                old.unlink()
        for key, text in secret.items():
            (self.secret / key).write_text(text)

    # ----------------------------------------------------------------------------------------------- its containers

    def begin_restore(self) -> subprocess.Popen[bytes]:
        """Start the init container."""
        with self._output.open("ab") as out:
            process = subprocess.Popen((*AGENT, "restore"), env=self.environment, stdout=out, stderr=out)
        self.agents.append(process)
        return process

    def restore(self) -> int:
        """Run the init container to its end and return its exit code."""
        return self.begin_restore().wait(20)

    def start_app(self, *flags: str) -> App:
        """Start the app's container and wait until it serves."""
        files = {"RESONANCE_RESTORE_FILE": str(self.restore_file), "RESONANCE_FINAL_FILE": str(self.final_file)}
        given = ("--bind", "127.0.0.1", "--port", str(self.app_port), "--nodes", "30", "--tick-ms", "0", *flags)
        app = App((*PYTHON_NETWORK, *given), self.app_port, files)
        self.apps.append(app)
        return app.until_serving()

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the sidecar and wait until it answers."""
        with self._output.open("ab") as out:
            command = (*AGENT, "serve", "--port", str(self.agent_port))
            process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        self.agents.append(process)
        eventually(lambda: self.page("/healthz") == "ok\n")
        return process

    def start(self, *flags: str) -> App:
        """Start all three as the kubelet would: restore, then the sidecar, then the app."""
        code = self.restore()
        assert code == 0, self.output()
        self.serve()
        return self.start_app(*flags)

    def end(self) -> int:
        """End the pod politely: preStop, then SIGTERM to the app, then to the sidecar, whose exit code is returned."""
        self.flush()
        self.apps[-1].end()
        return self.end_agent()

    def end_agent(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the sidecar a signal and wait for its end."""
        self.agents[-1].send_signal(number)
        return self.agents[-1].wait(5)

    # ------------------------------------------------------------------------------------------------ what can be seen

    def page(self, path: str) -> str | None:
        """A page of the sidecar, None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.agent_port}{path}", timeout=10) as answer:
                return cast("bytes", answer.read()).decode()
        except OSError:
            return None

    def flush(self) -> dict[str, str]:
        """Call the preStop hook."""
        return cast("dict[str, str]", json.loads(self.page("/flush") or "{}"))

    def metrics(self) -> dict[str, float]:
        """The sidecar's figures by name and labels as they stand on its page."""
        lines = [line for line in (self.page("/metrics") or "").splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def cpu_seconds(self) -> float:
        """What the sidecar has used of the processor."""
        fields = Path(f"/proc/{self.agents[-1].pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def output(self) -> str:
        """Everything the agent's containers wrote."""
        return self._output.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The agent's events of one name, oldest first. A line that is not JSON fails the test."""
        lines = self.output().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in found if event["event"] == name]

    def until_event(self, name: str, **fields: object) -> dict[str, Any]:
        """Wait for an event with these fields."""

        def seen() -> dict[str, Any] | None:
            fitting = (each for each in self.events(name) if fields.items() <= each.items())
            return next(fitting, None)

        return eventually(seen)

    def file(self) -> dict[str, Any]:
        """The restore file without its ``snapshot``."""
        content = cast("dict[str, Any]", json.loads(self.restore_file.read_bytes()))
        del content["snapshot"]
        return content

    def __exit__(self, *_: object) -> None:
        for process in self.agents:
            if process.poll() is None:
                process.kill()
            process.wait()
        for app in self.apps:
            app.__exit__()
        for path in sorted(self.folder.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        self.folder.rmdir()


class Store:
    """What the tests' Redis holds for one workload."""

    def __init__(self, redis: TlsRedis, namespace: str, workload: str = "StatefulSet.web") -> None:
        self.keys: WorkloadKeys = workload_keys("resonance", namespace, "web", workload)
        self.keyspace = RedisKeyspace(redis.settings)
        self.admin = redis.admin()

    def state(self, member: str = "web-0") -> dict[str, Any]:
        """The newest snapshot, verified; {} when there is none."""
        place = Member(member, self.keys.member(member), self.keys)
        seen = load(self.keyspace, place)
        found = restore(self.keyspace, place, seen, max_bytes=1 << 24) if seen.record.head is not None else None
        return json.loads(encode_state(found.state)) if found is not None else {}

    def head(self, member: str = "web-0") -> dict[str, str]:
        """The head as it stands."""
        return self._hash(self.keys.member(member).head)

    def report(self, member: str = "web-0") -> Report | None:
        """The member's report."""
        raw = cast("dict[bytes, bytes]", self.admin.hgetall(self.keys.member(member).report))
        return Report.from_fields(raw, where="report")

    def slot(self, member: str = "web-0") -> dict[str, Any]:
        """The member's slot record."""
        text = cast("bytes | None", self.admin.hget(self.keys.slots, member))
        return cast("dict[str, Any]", json.loads(text)) if text is not None else {}

    def kept_tips(self, member: str = "web-0") -> int:
        """How many snapshots are kept beside the head's history."""
        return int(self.admin.hlen(self.keys.member(member).kept))

    def say(self, **changes: object) -> None:
        """Write the policy's record, as the operator would."""
        known: dict[str, Any] = {"cluster": "here", "policy_uid": "p", "generation": 1, "every_ms": 1000, **changes}
        write_policy(self.keyspace, self.keys, PolicyRecord(**known))

    def until_saved(self, state: object, member: str = "web-0") -> None:
        """Wait until the newest snapshot is exactly this state."""
        eventually(lambda: self.state(member) == state)

    def _hash(self, key: str) -> dict[str, str]:
        raw = cast("dict[bytes, bytes]", self.admin.hgetall(key))
        return {name.decode(): value.decode() for name, value in raw.items()}
