"""The shape of the repository: what would break Python itself, leak a machine, or let the model touch the world.

Linters look at one file; these rules are about where files are and what they are called.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import resonance

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "operator"
PACKAGE = SOURCE / "resonance"

# Inside a package an absolute import can not take these for the standard ones; the names are the reader's words.
OWN_NAMES = {
    "resonance.model.resource": "the custom resource; nobody here reads Unix resource limits",
}

# Reading files, sockets, clocks, chance, the environment or other processes, and logging: what a decision may not do.
WORLD = frozenset(
    "asyncio concurrent fcntl glob http io logging mmap multiprocessing os pathlib platform random resource secrets "
    "select selectors shutil signal socket socketserver ssl subprocess sys tempfile threading time urllib uuid "
    "warnings".split()
)
SLEEPS = {"sleep", "time.sleep", "asyncio.sleep"}

# Names of public registries and mirrors, in pieces, so that this file passes its own test.
REGISTRIES = [
    "pypi" + r"\.org",
    "pythonhosted" + r"\.org",
    "proxy" + r"\.golang\.org",
    "sum" + r"\.golang\.org",
    "deb" + r"\.debian\.org",
    "registry" + r"\.npmjs",
    "docker" + r"\.io/",
    "ghcr" + r"\.io/",
    "quay" + r"\.io/",
    "registry" + r"\.k8s\.io",
    r"--(extra-)?index" + "-url",
    r"--find" + "-links",
]
MACHINE = [r"(?<![\w.])/" + folder + "/" for folder in ("root", "home", "work", "Users")]


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def pins(lock: Path) -> dict[str, str]:
    """Map ``name==version`` to its hashes."""
    blocks = re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").strip())
    return {block.split()[0]: " ".join(re.findall(r"sha256:\w+", block)) for block in blocks}


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_the_source_root_holds_the_package_and_nothing_else() -> None:
    """With an ``__init__.py`` it would shadow the standard ``operator``, and ``import asyncio`` would die here."""
    assert [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"] == ["resonance"]


def test_python_starts_in_the_root_of_the_repository() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import asyncio, operator; print(operator.add(1, 1))"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "2\n", done.stderr


def test_no_module_is_named_like_a_standard_or_third_party_one() -> None:
    ours = {"resonance", "tests"}
    taken = (sys.stdlib_module_names | packages_distributions().keys()) - ours
    clashes = [name for name, _ in modules(PACKAGE) if name.rpartition(".")[2] in taken and name not in OWN_NAMES]
    assert clashes == [], "rename them, or say in OWN_NAMES why the name is the right word"


def test_the_model_never_touches_the_world() -> None:
    touching = {name: sorted(WORLD & set(imported(path))) for name, path in modules(PACKAGE / "model")}
    assert {name: found for name, found in touching.items() if found} == {}


@pytest.mark.parametrize("marker", [PACKAGE / "py.typed", ROOT / "LICENSE"], ids=lambda path: path.name)
def test_what_the_wheel_carries_is_there(marker: Path) -> None:
    assert marker.is_file()


def test_a_test_never_sleeps() -> None:
    """It waits for a condition with a deadline; yielding the loop with ``asyncio.sleep(0)`` is not sleeping."""
    sleeping = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in SLEEPS
        and [ast.unparse(arg) for arg in call.args] != ["0"]
    ]
    assert sleeping == []


def test_both_images_carry_the_version_of_the_package() -> None:
    declared = re.findall(r"^ARG VERSION=(.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared == [resonance.__version__] * 2


def test_what_the_images_install_is_what_the_tests_ran_with() -> None:
    """Each lock of an image is a part of the developer's, to the hash."""
    tested = pins(ROOT / "requirements" / "dev.lock")
    for name in ("agent", "operator", "build"):
        assert pins(ROOT / "requirements" / f"{name}.lock").items() <= tested.items(), "run make lock"


def test_the_agent_installs_neither_kopf_nor_a_kubernetes_client() -> None:
    installed = {pin.partition("==")[0] for pin in pins(ROOT / "requirements" / "agent.lock")}
    assert installed.isdisjoint({"kopf", "kubernetes", "aiohttp"})
    assert "redis" in installed


def test_no_committed_file_names_a_registry_or_a_machine() -> None:
    """Whoever builds decides where packages come from; a path of one machine is wrong on every other."""
    secret = re.compile("|".join(REGISTRIES + MACHINE).encode())
    leaks = []
    for path in committed():
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if found := secret.search(line):
                leaks.append(f"{path.relative_to(ROOT)}:{number}: {found.group().decode()}")
    assert leaks == []
