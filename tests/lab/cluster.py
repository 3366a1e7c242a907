"""The lab as an object: up, down, images in, faults in, faults out.

Every verb of the command line is a method here, for fixtures and the demo.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.lab import build, cgroups, containers, daemons, debian, files, images, network, pki, processes, teardown
from tests.lab.containers import ContainerName
from tests.lab.failure import LabError
from tests.lab.layout import ALL_NODES, NODES, Layout, Node, node_named
from tests.lab.network import Cut
from tests.lab.processes import Daemon
from tests.lab.progress import Progress, attempt, run

READY_SECONDS = 60.0


class Cluster(Protocol):
    """What the demo and the tests ask of any cluster. Faults are the lab's own (see `Lab`)."""

    @property
    def kubeconfig(self) -> Path: ...

    def environment(self) -> Mapping[str, str]: ...

    def up(self) -> None: ...

    def down(self) -> None: ...

    def images(self, names: Sequence[str] = ()) -> Mapping[str, str]: ...

    def kubectl(self, *words: str, text: str | None = None) -> str: ...


class Lab:
    """The two-node cluster of this machine. Making the object does nothing.

    All state is on the machine, so any number of objects agree.
    """

    def __init__(self, layout: Layout | None = None, progress: Progress | None = None) -> None:
        self.layout = layout or Layout.from_environment()
        self.progress = progress or Progress()

    # ------------------------------------------------------------------------------------------------- talking to it
    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The API server's audit log.

        One JSON object a line, for core, apps and resonance.dev, without the cluster's own parts.
        """
        return self.layout.audit_log

    def environment(self) -> Mapping[str, str]:
        """Variables with which kubectl and clients reach the lab: KUBECONFIG, and a PATH with kubectl first."""
        path = f"{self.layout.bin}:{os.environ.get('PATH', '')}"
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.layout.state / "kubectl"), "PATH": path}

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """Run kubectl and give its output; `text` is its standard input. A failure is a LabError with what it said."""
        return run([self.layout.bin / "kubectl", *words], environment=self.environment(), text=text)

    def apply(self, objects: Sequence[Mapping[str, object]]) -> None:
        """Apply objects."""
        self.kubectl(
            "apply", "-f", "-", text=files.as_text({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        )

    # -------------------------------------------------------------------------------------------------------- life
    def up(self) -> None:
        """Bring the lab up; at once if it is up and healthy. Remains of a crashed one are taken down first."""
        debian.require_root()
        with self._alone():
            debian.install(self.progress)
            build.build_all(self.layout, self.progress)
            images.pause(self.layout, self.progress)
            if self.healthy():
                self.recycle_volumes()
                self.progress.line("the lab is up already")
                return
            teardown.down(self.layout)
            try:
                with self.progress.step(f"starting Kubernetes with {len(NODES)} nodes"):
                    self._start()
            except BaseException:
                self.progress.line(f"the start failed; logs are in {self.layout.logs} until the next `up` or `down`")
                raise

    def down(self) -> None:
        """Take the lab down and leave nothing behind but the cache.

        Also when it is half up, crashed, or down already.
        """
        debian.require_root()
        with self._alone(), self.progress.step("taking the lab down"):
            teardown.down(self.layout)

    def healthy(self) -> bool:
        """True: it has the wanted versions, every daemon runs, and the API server and both nodes say they are ready."""
        states = self.status()
        if (
            not self._complete.is_file()
            or not self._current()
            or any(states.get(name) != "runs" for name in daemons.names())
        ):
            return False
        nodes = [f"node/{name}" for name in NODES]
        return self.ready() and self._answers("wait", "--for=condition=Ready", "--timeout=3s", *nodes)

    def ready(self) -> bool:
        """True: the API server says that it is ready."""
        return self._answers("get", "--raw", "/readyz")

    def status(self) -> Mapping[str, str]:
        """Say of each daemon `runs`, `dead` or `paused`; empty when the lab is down."""
        return {name: state_of(record) for name, record in processes.records(self.layout).items()}

    # -------------------------------------------------------------------------------------------------------- images
    def images(self, names: Sequence[str] = ()) -> Mapping[str, str]:
        """Build the named images of this repository (all if none is named) and load them into both nodes.

        Gives name → reference.

        Nothing is built or loaded that is there already with the same content.
        """
        with self._alone():
            self._require_up()
            tars = images.build(self.layout, self.progress, names)
            for name, tar in tars.items():
                self._load(tar, images.REFERENCES[name])
        return {name: images.REFERENCES[name] for name in tars}

    def load(self, tar: Path) -> None:
        """Load an image archive (of `docker save`, or buildah's docker-archive) into both nodes."""
        self._require_up()
        for node in ALL_NODES:
            self._ctr(node, "images", "import", "--local", str(tar))

    def _load(self, tar: Path, reference: str) -> None:
        """Load an archive into the nodes that do not have this very one, into all of them at the same time.

        The mark that says so lies in the node's folder and dies with it.
        """
        marks = {node: self.layout.node(node) / "loaded" / reference.replace("/", "_") for node in ALL_NODES}
        todo = [node for node, mark in marks.items() if not mark.is_file() or mark.read_text() != tar.name]
        if not todo:
            return
        with self.progress.step(f"loading {reference}"), ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self._ctr(node, "images", "import", "--local", str(tar)), todo))
        for node in todo:
            marks[node].parent.mkdir(exist_ok=True)
            marks[node].write_text(tar.name)

    # -------------------------------------------------------------------------------------------------------- faults
    def cut(self, node: str, what: Cut, addresses: Sequence[str] = ()) -> None:
        """Cut a node off from the API server, from Redis (its pods.

        `addresses` are `ip:port`, else the Redis ports), or from everything.
        """
        target = node_named(node)
        if what is Cut.EVERYTHING:
            run(network.cable_command(target, "down"))
        else:
            self.inside(node, "nft", "-f", "-", text=network.cut_rules(target, what, addresses))

    def heal(self, node: str) -> None:
        """Undo every cut of a node."""
        target = node_named(node)
        run(network.cable_command(target, "up"))
        attempt([*self._enter(target), *network.uncut_command()])

    def kill(self, what: str) -> None:
        """SIGKILL a daemon by name (`apiserver`, `kubelet1`, …) or every process of a container
        (`namespace/pod/container`).
        """
        if "/" in what:
            first = containers.send(self.layout, ContainerName.parse(what), signal.SIGKILL)
            processes.wait_until_dead([first])
        else:
            processes.kill(self.layout, what)

    def pause(self, what: str) -> None:
        """SIGSTOP a daemon or every process of a container."""
        self._send(what, signal.SIGSTOP)

    def resume(self, what: str) -> None:
        """SIGCONT a daemon or every process of a container."""
        self._send(what, signal.SIGCONT)

    def start(self, what: str) -> None:
        """Start a killed daemon again with its old command line. Returns at once.

        `wait_until_ready` waits until the API server answers again.
        """
        self._daemon(processes.record_of(self.layout, what).daemon)

    def wait_until_ready(self) -> None:
        """Wait until the API server says that it is ready; a daemon that is dead, or too long a wait, is an error."""
        self._until("the API server to be ready", self.ready)

    def pid(self, container: str) -> int:
        """Give the process id, on this machine, of a running container's first process (`namespace/pod/container`)."""
        return containers.process_of(self.layout, ContainerName.parse(container))

    def inside(self, node: str, *words: str, text: str | None = None) -> str:
        """Run a command in a node's network and mount namespace and give its output."""
        return run([*self._enter(node_named(node)), *words], text=text)

    def recycle_volumes(self) -> None:
        """Make volumes whose claim is gone empty and claimable again."""
        listed = json.loads(self.kubectl("get", "persistentvolumes", "-o", "json"))["items"]
        phases = {item["metadata"]["name"]: item["status"].get("phase") for item in listed}
        for node, name in files.volume_names():
            if phases.get(name) in {"Released", "Failed"}:
                self.kubectl("delete", "persistentvolume", name, "--wait=true")
                self._volume(node, name)

    # ------------------------------------------------------------------------------------------------------ the start
    def _start(self) -> None:
        layout = self.layout
        layout.state.mkdir(parents=True, mode=0o755)
        missing = [folder for folder in daemons.PRIVATE_FOLDERS if not Path(folder).is_dir()]
        teardown.remember_settings(layout, missing)
        for folder in missing:
            Path(folder).mkdir(parents=True, exist_ok=True)
        self._link_programs()
        cgroups.prepare()
        self._daemon(daemons.etcd(layout))
        pki.write_certificates(layout)
        self._write_files()
        self._network()
        for daemon in (daemons.apiserver(layout), daemons.controller_manager(layout), daemons.scheduler(layout)):
            self._daemon(daemon)
        for node in ALL_NODES:
            self._daemon(daemons.node_daemons(layout, node, self._holder(node))[0])
        self._until("the API server to be ready", self.ready)
        for node in ALL_NODES:
            self._until(f"containerd of {node.name}", lambda node=node: attempt(self._ctr_words(node, "version")))  # type: ignore[misc]
            self._ctr(node, "images", "import", "--local", str(images.pause_tar(layout)))
            for daemon in daemons.node_daemons(layout, node, self._holder(node))[1:]:
                self._daemon(daemon)
        self._daemon(daemons.coredns(layout))
        self.apply([*files.dns_objects(), files.storage_class()])
        self._volumes(files.volume_names())
        for name in NODES:
            self._until(f"{name} to appear", lambda name=name: self._answers("get", f"node/{name}"))  # type: ignore[misc]
        self.kubectl(
            "wait", "--for=condition=Ready", f"--timeout={READY_SECONDS:.0f}s", *(f"node/{name}" for name in NODES)
        )
        self._until(
            "the default service account", lambda: self._answers("get", "serviceaccount/default", "-n", "default")
        )
        self._complete.touch()

    def _programs(self) -> Mapping[str, Path]:
        """Give the place in the cache of every program of the wanted versions, by name."""
        folders = {module: build.folder_of(module, self.layout) for module in build.modules(build.versions())}
        return {program.name: folders[module] / program.name for module in folders for program in module.programs}

    def _link_programs(self) -> None:
        self.layout.bin.mkdir()
        for name, program in self._programs().items():
            (self.layout.bin / name).symlink_to(program)

    def _current(self) -> bool:
        """True: the lab was started with the programs that are wanted now."""
        pairs = [(self.layout.bin / name, program) for name, program in self._programs().items()]
        return all(link.is_symlink() and link.readlink() == program for link, program in pairs)

    def _write_files(self) -> None:
        layout = self.layout
        layout.audit_log.parent.mkdir()
        contents = {
            "audit-policy.yaml": files.audit_policy(),
            "Corefile": files.corefile(layout),
            **{f"{who}.conf": files.kubeconfig(layout, who) for who in (*pki.CLIENTS, *NODES)},
        }
        for node in ALL_NODES:
            folder = layout.node(node)
            for name in ("cni", "run", "plugins", *daemons.PRIVATE_FOLDERS.values()):
                (folder / name).mkdir(parents=True)
            contents |= {
                f"{node.name}/cni/10-lab.conflist": files.cni(node, str(folder)),
                f"{node.name}/containerd.toml": files.containerd(str(folder)),
                f"{node.name}/kubelet.yaml": files.kubelet(layout, node, cgroups.version()),
                f"{node.name}/proxy.yaml": files.proxy(layout, node),
            }
        for name, content in contents.items():
            (layout.state / name).write_text(content)

    def _network(self) -> None:
        run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        for command in (*network.bridge_up(), *network.open_forwarding(teardown.forward_rules())):
            run(command)
        for node in ALL_NODES:
            record = self._daemon(daemons.holder(self.layout, node))
            held = self.layout.node(node) / "held"
            self._until(f"the namespaces of {node.name}", held.is_file)
            for command in network.cable_up(node, record.pid):
                run(command)
            for command in network.inside_up(node, ALL_NODES):
                self.inside(node.name, *command)

    def _volumes(self, wanted: Sequence[tuple[Node, str]]) -> None:
        for _, name in wanted:
            self._folder(name)
        self.apply([files.volume(self.layout, node, name) for node, name in wanted])

    def _volume(self, node: Node, name: str) -> None:
        self._folder(name)
        self.apply([files.volume(self.layout, node, name)])

    def _folder(self, name: str) -> None:
        """Make a volume's folder, empty, and open to any user: a pod without fsGroup writes there too."""
        folder = self.layout.volumes / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.chmod(0o777)

    # -------------------------------------------------------------------------------------------------------- small
    @property
    def _complete(self) -> Path:
        """Exists once a start came to its end.

        A start that was killed near it leaves daemons that look well but know no volumes.
        """
        return self.layout.state / "complete"

    def _daemon(self, daemon: Daemon) -> processes.Record:
        return processes.start(self.layout, daemon, cgroups.home_of_daemons())

    def _holder(self, node: Node) -> int:
        return processes.record_of(self.layout, f"holder{node.number}").pid

    def _enter(self, node: Node) -> Sequence[str]:
        return daemons.enter(self._holder(node))

    def _require_up(self) -> None:
        if not self._complete.is_file():
            raise LabError("the lab is down, so there is nothing to load images into. `make lab` starts it.")

    def _answers(self, *words: str) -> bool:
        return attempt([self.layout.bin / "kubectl", "--request-timeout=3s", *words], self.environment())

    def _ctr_words(self, node: Node, *words: str) -> list[str | Path]:
        return [self.layout.bin / "ctr", "-a", self.layout.containerd_socket(node), "-n", "k8s.io", *words]

    def _ctr(self, node: Node, *words: str) -> str:
        return run(self._ctr_words(node, *words))

    def _send(self, what: str, signal_: signal.Signals) -> None:
        if "/" in what:
            containers.send(self.layout, ContainerName.parse(what), signal_)
        else:
            processes.send(self.layout, what, signal_)

    def _until(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not done():
            dead = [name for name, state in self.status().items() if state == "dead"]
            if dead:
                raise LabError(
                    f"{dead[0]} ended while the lab waited for {what}; {self.layout.logs / dead[0]}.log says why."
                )
            if time.monotonic() > deadline:
                raise LabError(f"waited {READY_SECONDS:.0f} s in vain for {what}; look into {self.layout.logs}.")
            time.sleep(0.1)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the machine-wide lock: two `make lab` at once must not build or start the same thing."""
        self.layout.cache.mkdir(parents=True, exist_ok=True)
        with (self.layout.cache / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress.line("another lab command is at work; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def state_of(record: processes.Record) -> str:
    """Say `runs`, `paused` or `dead`."""
    if not record.alive():
        return "dead"
    text = Path(f"/proc/{record.pid}/stat").read_text()
    return "paused" if text[text.rindex(")") + 2] == "T" else "runs"
