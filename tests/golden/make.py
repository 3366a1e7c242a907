"""Writes the golden files of the current format: ``python -m tests.golden.make VERSION``.

Run once for each released format and never again for it: these files are what old agents have left in people's Redis.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from resonance.model.manifest import Head, Manifest
from resonance.model.state import State, diff, digest
from resonance.sealing import proof_of, seal_base, seal_delta
from tests.golden.content import AFTER, BEFORE

HERE = Path(__file__).parent


def manifest(seq: int, state: State, blob: bytes, chain: tuple[int, ...]) -> Manifest:
    """The manifest of one of the two snapshots."""
    return Manifest(
        seq=seq,
        commit=f"{seq:032x}",
        line="0123456789abcdef",
        parent=None if seq == 1 else f"{seq - 1:032x}",
        incarnation="0123456789abcdef",
        digest=digest(state),
        counts=state.counts(),
        state_bytes=state.size(),
        stored_bytes=len(blob),
        chain=chain,
        proof=proof_of(blob),
        taken_at_ms=1_750_000_000_000 + seq,
        writer="6d1b2c6e-0000-4000-8000-000000000000",
        pod="web-0",
        epoch=3,
        kept_as=("pin",) if seq == 1 else (),
        base_bytes=len(blob),
    )


def main(version: str) -> None:
    """Write all files of one version; refuses to overwrite any."""
    folder = HERE / version
    folder.mkdir(exist_ok=True)
    base, delta = seal_base(BEFORE), seal_delta(BEFORE, diff(BEFORE, AFTER))
    head = Head(3, "6d1b2c6e-0000-4000-8000-000000000000", manifest(2, AFTER, delta, (1, 2)), None, 1, 2)
    files = {
        "base.blob": base,
        "delta.blob": delta,
        "manifest.json": manifest(1, BEFORE, base, (1,)).to_json().encode(),
        "head.json": json.dumps(head.to_fields(), indent=1).encode(),
    }
    for name, content in files.items():
        with (folder / name).open("xb") as file:
            file.write(content)


if __name__ == "__main__":
    main(sys.argv[1])
