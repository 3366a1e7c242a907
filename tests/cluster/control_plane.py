"""An API server of its own: etcd and kube-apiserver, nothing else, for what is decided by the API server alone.

The argument: rules and admission are judged by the API server, and a dry run needs no node. On a server that nobody
else uses, a test may take the resource away, or play the operator, without an operator that answers back.
It starts in seconds, from the programs of the lab.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import LabError, build, pki
from tests.lab.layout import Layout
from tests.lab.progress import Progress

PORT = 16443  # of the API server; etcd has the next two
START_SECONDS = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]

Object = dict[str, Any]


class Refused(Exception):
    """The API server said no; the text is what a user of kubectl reads."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one cluster."""

    program: Path
    kubeconfig: Path

    def __call__(self, *words: str, text: str | None = None) -> str:
        """Run it and give its standard output; raises :class:`Refused` with what it said."""
        done = self.start(*words, text=text)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        return done.stdout

    def start(self, *words: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whatever that is."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)

    def dry_run(self, wanted: Object, namespace: str) -> Object:
        """Give the object as the API server would keep it; nothing is kept."""
        words = ("create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-")
        answer: Object = json.loads(self(*words, text=json.dumps(wanted)))
        return answer

    def apply(self, wanted: Object, namespace: str) -> Object:
        """Apply the object and give it as it is kept."""
        answer: Object = json.loads(self("apply", "-o", "json", "-n", namespace, "-f", "-", text=json.dumps(wanted)))
        return answer

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace that pods can be created in, and give its name."""
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}, name
        )
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, name)
        return name


def wait_for(said: str, seconds: float, *, poll: float = 0.1) -> Iterator[float]:
    """Yield the time left until the deadline; running out of it is a failure that names what was waited for."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        yield left
        time.sleep(poll)
    raise AssertionError(f"after {seconds:g} s still not: {said}")


@contextmanager
def api_server(folder: Path, port: int = PORT) -> Iterator[Kubectl]:
    """Run an API server on this machine until the block ends, with everything it writes in `folder`."""
    programs = _programs()
    private = Layout(cache=folder, state=folder)
    pki.write_certificates(private)
    kubectl = Kubectl(programs["kubectl"], folder / "admin.conf")
    (folder / "admin.conf").write_text(json.dumps(_kubeconfig(private.pki, port)))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            _etcd(programs["etcd"], folder, port),
            _kube_apiserver(programs["kube-apiserver"], private.pki, port),
        ):
            with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        for _ in wait_for("the API server is ready", START_SECONDS):
            if any(process.poll() is not None for process in started):
                raise LabError(f"the API server of the tests ended at once; its log is in {folder}")
            if kubectl.start("get", "--raw", "/readyz").returncode == 0:
                break
        yield kubectl
    finally:
        for process in reversed(started):
            process.kill()  # a polite API server keeps its port for a minute
            process.wait()
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def _programs() -> Mapping[str, Path]:
    """The lab's programs, by name; built first if they are not in its cache."""
    layout = Layout.from_environment()
    build.build_all(layout, Progress())
    modules = build.modules(build.versions())
    return {
        program.name: build.folder_of(module, layout) / program.name
        for module in modules
        for program in module.programs
    }


def _etcd(program: Path, folder: Path, port: int) -> Sequence[str]:
    client, peer = f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port + 2}"
    return [
        str(program),
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _kube_apiserver(program: Path, certificates: Path, port: int) -> Sequence[str]:
    return [
        str(program),
        f"--etcd-servers=http://127.0.0.1:{port + 1}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--service-cluster-ip-range=10.97.0.0/16",
        f"--client-ca-file={certificates}/ca.crt",
        f"--tls-cert-file={certificates}/apiserver.crt",
        f"--tls-private-key-file={certificates}/apiserver.key",
        f"--service-account-key-file={certificates}/sa.pub",
        f"--service-account-signing-key-file={certificates}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
    ]


def _kubeconfig(certificates: Path, port: int) -> Object:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": f"{certificates}/ca.crt"}
    user = {"client-certificate": f"{certificates}/admin.crt", "client-key": f"{certificates}/admin.key"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "alone", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "alone", "context": {"cluster": "alone", "user": "admin"}}],
        "current-context": "alone",
    }
