"""The files on tmpfs that this pod's containers share: the restore file, our claim, and the app's final words.

Each file is replaced as a whole (written beside, then renamed), so a reader sees the old or the new one whatever dies.
tmpfs lives as long as the pod, so what a file says was written by this very pod; the claim carries the pod's uid all
the same, and a file without a claim of this uid is not believed.

The app's final file can't be removed by us (the folder is sticky, the file is the app's), so the mark of the last one
dealt with is kept in the claim: a final file is looked at once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resonance.agent.log import Log
from resonance.model.restore import LocalFile

_TAIL = 8192
"""Our ``snapshot`` object is the last member of a restore file and shorter than this."""
_NAME = b'"snapshot":'

Mark = tuple[int, int, int]
"""Which final file it is: inode, ns of its last change, size."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the init hook found out, for the sidecar. ``member`` is None when no member could be claimed.

    ``restored`` maps the id of the snapshot that was given to its commit. ``answer`` is how the start went.
    """

    uid: str
    member: str | None
    epoch: int
    reserved: bool
    restored: dict[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    last_seq: int = 0
    answer: str = ""
    note: str = ""
    restore_ms: int = -1
    final: Mark | None = None

    def to_json(self) -> str:
        return json.dumps({"v": 1, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Claimed | None:
        """None when the text is not a claim of a version that we read."""
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw.pop("v") != 1:
                return None
            final = tuple(raw["final"]) if raw["final"] is not None else None
            return cls(**{**raw, "lines": tuple(raw["lines"]), "final": final})
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Filed:
    """What the restore file on tmpfs holds."""

    id: str
    commit: str
    epoch: int

    @property
    def line(self) -> str:
        return self.id.rpartition(".")[0]

    @property
    def seq(self) -> int:
        return int(self.id.rpartition(".")[2])

    @property
    def local(self) -> LocalFile:
        return LocalFile(self.line, self.seq, self.epoch)


class Tmpfs:
    """The shared folder."""

    def __init__(self, directory: Path, log: Log) -> None:
        self._restore = directory / "restore.json"
        self._claim = directory / "claim.json"
        self._final = directory / "final.json"
        self._log = log

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Replace the restore file. Logs when it can't be written: the commit must go on."""
        try:
            _replace(self._restore, parts)
        except OSError as error:
            self._log.error("restore_file_not_written", reason=error.strerror, bytes=sum(map(len, parts)))

    def give(self, document: bytes) -> None:
        """Replace the restore file before the app starts. Raises OSError."""
        _replace(self._restore, [document])

    def remove(self) -> None:
        """Leave no restore file."""
        self._restore.unlink(missing_ok=True)

    def filed(self) -> Filed | None:
        """What the restore file holds, None when there is none of ours."""
        try:
            with self._restore.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL))
                tail = file.read()
            raw = json.loads(tail[tail.rindex(_NAME) + len(_NAME) : tail.rindex(b"}")])
            filed = Filed(raw["id"], raw["commit"], int(raw["epoch"]))
            return filed if filed.seq >= 0 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def claimed(self, uid: str) -> Claimed | None:
        """The claim of this very pod, None when there is none."""
        try:
            found = Claimed.from_json(self._claim.read_text())
        except (OSError, UnicodeDecodeError):
            return None
        return found if found is not None and found.uid == uid else None

    def claim(self, claimed: Claimed) -> None:
        """Replace the claim. Raises OSError."""
        _replace(self._claim, [claimed.to_json().encode()])

    def final_mark(self) -> Mark | None:
        """Which final file is there, None when there is none."""
        try:
            found = self._final.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def final_words(self, max_bytes: int) -> bytes | None:
        """The app's last state, None when it can't be read or is larger than ``max_bytes``."""
        try:
            with self._final.open("rb") as file:
                document = file.read(max_bytes + 1)
        except OSError:
            return None
        return document if len(document) <= max_bytes else None


def _replace(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            file.writelines(parts)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
