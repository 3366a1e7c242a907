"""The images of the lab: each built once from files whose hash names the archive, so a second run builds nothing.

No registry is asked for anything: the base is made by debootstrap from the mirror that this machine's apt uses, the
pause image is one static binary, everything else is built on the base by buildah, the product's two images with the
product's own Dockerfile.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import debian
from tests.lab.failure import LabError
from tests.lab.files import PAUSE_IMAGE
from tests.lab.layout import REPOSITORY, Layout
from tests.lab.progress import Progress, attempt, run

BASE = "localhost/base:lab"
BASE_PACKAGES = ("python3-minimal", "libpython3-stdlib", "ca-certificates")
BASE_DROPPED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/info",
    "var/log/bootstrap.log",
)
RECIPE = "1"  # counted up when the steps below change what they make from the same files
CERTIFICATES = "/etc/ssl/certs"  # mounted into builds: pip inside then trusts what this machine trusts
KEPT_LAYERS = 150


@dataclass(frozen=True)
class Image:
    """One image: what it is called, the Dockerfile and its target, and the files of the repository that it is made
    from.
    """

    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    target: str = ""

    @property
    def reference(self) -> str:
        return f"localhost/{self.name}:lab"


PRODUCT = ("requirements", "pyproject.toml", "LICENSE", "README.md", "operator")
ALL = (
    Image("resonance-agent", "Dockerfile", PRODUCT, "agent"),
    Image("resonance-operator", "Dockerfile", PRODUCT, "operator"),
    Image("resonance-redis", "tests/lab/dockerfiles/redis.Dockerfile", ()),
    Image("app-python", "tests/lab/dockerfiles/app-python.Dockerfile", ("tests/apps",)),
    Image("app-node", "tests/lab/dockerfiles/app-node.Dockerfile", ("tests/apps",)),
)
REFERENCES: Mapping[str, str] = {image.name: image.reference for image in ALL}


def chosen(names: Sequence[str]) -> tuple[Image, ...]:
    """Give the named images, or all; an unknown name is an error that lists the known ones."""
    for name in names:
        if name not in REFERENCES:
            raise LabError(f"image: {name!r} is not built here. Images: {', '.join(REFERENCES)}.")
    return tuple(image for image in ALL if not names or image.name in names)


def contents(image: Image, repository: Path = REPOSITORY) -> dict[str, bytes]:
    """Read every file that goes into an image, by its path in the repository; a missing one is an error."""
    found: dict[str, bytes] = {}
    for name in (image.dockerfile, *image.inputs):
        path = repository / name
        if not path.exists():
            raise LabError(f"{name}: image {image.name} is made from it, but it is not in {repository}.")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                found[str(file.relative_to(repository))] = file.read_bytes()
    return found


def digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """Hash names and contents."""
    total = hashlib.sha256()
    for name, content in parts:
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:16]


def base_key(suite: str) -> str:
    """Name the base by what decides its content, and leave the mirror out: all mirrors have the same packages."""
    return digest([("base", " ".join([RECIPE, suite, platform.machine(), *BASE_PACKAGES, *BASE_DROPPED]).encode())])


def key(image: Image, base: str, files: Mapping[str, bytes]) -> str:
    """Name an image by its base, its target and its files."""
    return digest([("recipe", f"{RECIPE} {base} {image.name} {image.target}".encode()), *sorted(files.items())])


def build(layout: Layout, progress: Progress, names: Sequence[str] = ()) -> dict[str, Path]:
    """Make the archives of the named images (all if none is named); gives name → archive."""
    wanted = chosen(names)
    layout.images.mkdir(parents=True, exist_ok=True)
    mirror, suite = debian.mirror()
    base, made = base_key(suite), {}
    for image in wanted:
        files = contents(image)
        tar = layout.images / f"{image.name}-{key(image, base, files)}.tar"
        if not tar.is_file():
            make_base(layout, progress, base, mirror, suite)
            with progress.step(f"building image {image.reference}"):
                build_one(layout, image, base, files, tar)
            for old in layout.images.glob(f"{image.name}-*.tar"):
                if old != tar:
                    old.unlink()
            prune(layout)
        made[image.name] = tar
    return made


def build_one(layout: Layout, image: Image, base: str, files: Mapping[str, bytes], tar: Path) -> None:
    """Build one image in a folder that holds exactly the files that its key covers, and write its archive."""
    with tempfile.TemporaryDirectory(prefix="context-", dir=layout.images) as scratch:
        context = Path(scratch)
        for name, content in files.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_bytes(content)
        words = [
            "bud",
            "--layers",
            "--isolation",
            "chroot",
            "--quiet",
            "-f",
            str(context / image.dockerfile),
            "-t",
            image.reference,
        ]
        words += ["--build-arg", f"BASE=localhost/base:{base}", *pip_words(), "-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        builder(layout, *words, *(("--target", image.target) if image.target else ()), str(context))
    export(layout, image.reference, tar)


def pip_words() -> list[str]:
    """Let pip inside a build use the index that pip outside uses."""
    words = ["--build-arg", f"PIP_INDEX_URL={os.environ['PIP_INDEX_URL']}"] if os.environ.get("PIP_INDEX_URL") else []
    return words + (["-v", "/etc/pip.conf:/etc/pip.conf:ro"] if Path("/etc/pip.conf").is_file() else [])


def export(layout: Layout, reference: str, tar: Path) -> None:
    """Write an image as a docker archive, whole or not at all."""
    fresh = tar.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    builder(layout, "push", "--quiet", reference, f"docker-archive:{fresh}:{reference}")
    fresh.rename(tar)


def builder(layout: Layout, *words: str) -> str:
    """Run buildah with the lab's own store and settings, apart from the user's, and give its output."""
    return run(buildah(layout, *words), environment=settings(layout))


def buildah(layout: Layout, *words: str) -> list[str]:
    """Give the words of a buildah command in the lab's own store."""
    store = layout.cache / "buildah"
    return [
        "buildah",
        "--root",
        str(store / "root"),
        "--runroot",
        str(store / "run"),
        "--storage-driver",
        driver(store),
        *words,
    ]


def settings(layout: Layout) -> dict[str, str]:
    """Keep buildah from writing network settings, which these builds do not use, into /etc."""
    file = layout.cache / "buildah" / "containers.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[network]\nnetwork_config_dir = "{file.parent}/networks"\n')
    return {"CONTAINERS_CONF": str(file)}


def driver(store: Path) -> str:
    """Choose `overlay` where overlay file systems can be mounted, else `vfs` (slower, works everywhere).

    Decided once for a store.
    """
    decided = store / "driver"
    if not decided.is_file():
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store) as scratch:
            for name in ("lower", "upper", "work", "merged"):
                (Path(scratch) / name).mkdir()
            options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
            works = attempt(["mount", "-t", "overlay", "overlay", "-o", options, f"{scratch}/merged"])
            if works:
                run(["umount", f"{scratch}/merged"])
        decided.write_text("overlay" if works else "vfs")
    return decided.read_text()


def prune(layout: Layout) -> None:
    """Drop the layers of earlier builds when they have become many; the next build then takes longer once."""
    if len(builder(layout, "images", "--all", "--quiet").split()) > KEPT_LAYERS:
        attempt(buildah(layout, "rmi", "--prune"), settings(layout))


def make_base(layout: Layout, progress: Progress, base: str, mirror: str, suite: str) -> None:
    """Make the base image, if the store does not have this very one."""
    tagged = f"localhost/base:{base}"
    if attempt(buildah(layout, "inspect", "--type", "image", tagged), settings(layout)):
        return
    folder = layout.cache / f"base-{base}"
    with progress.step(f"making a base system ({suite}) with debootstrap"):
        shutil.rmtree(folder, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", suite, folder, mirror])
        for name in BASE_DROPPED:
            empty(folder / name)
        container = builder(layout, "from", "scratch").strip()
        builder(layout, "copy", "--quiet", container, str(folder), "/")
        builder(layout, "commit", "--quiet", "--rm", container, tagged)
        builder(layout, "tag", tagged, BASE)
        shutil.rmtree(folder)


def empty(path: Path) -> None:
    """Remove what is in a folder, or a file."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


# ---------------------------------------------------------------------------------------------------------------- pause
def pause_tar(layout: Layout) -> Path:
    """Where the archive of the pause image is."""
    return layout.images / f"pause-{RECIPE}.tar"


def pause(layout: Layout, progress: Progress) -> None:
    """Make the pause image: busybox, asleep. Written by hand as a docker archive.

    No builder is needed to bring the lab up.
    """
    tar = pause_tar(layout)
    if tar.is_file():
        return
    progress.line("making the pause image")
    tar.parent.mkdir(parents=True, exist_ok=True)
    fresh = tar.with_suffix(".new")
    fresh.write_bytes(
        archive(
            PAUSE_IMAGE, {"bin/busybox": Path("/bin/busybox").read_bytes()}, ["/bin/busybox", "sleep", "2147483647"]
        )
    )
    fresh.rename(tar)


def archive(reference: str, files: Mapping[str, bytes], entrypoint: Sequence[str]) -> bytes:
    """Write a docker archive with one layer of executable files."""
    layer = tar_of({name: (content, 0o755) for name, content in files.items()})
    layer_name = "layer.tar"
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": [layer_name]}]
    parts = {
        "config.json": json.dumps(config).encode(),
        layer_name: layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    return tar_of({name: (content, 0o644) for name, content in parts.items()})


def tar_of(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """Write files (content, mode) into a tar of which nothing depends on the time or the user."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
