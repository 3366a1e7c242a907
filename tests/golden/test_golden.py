"""Every format that was ever released is read for ever: these files are the bytes that it wrote."""

import json
from pathlib import Path

import pytest

from resonance.model.manifest import Head, Manifest
from resonance.model.state import digest
from resonance.sealing import open_base, open_chain, proof_of
from tests.golden.content import AFTER, BEFORE

VERSIONS = sorted(each for each in Path(__file__).parent.iterdir() if each.is_dir() and each.name.startswith("v"))
LIMIT = 1 << 20


def test_there_are_golden_files() -> None:
    assert [each.name for each in VERSIONS] == ["v1"]


@pytest.fixture(params=VERSIONS, ids=lambda each: each.name)
def version(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def test_blobs_of_every_format_open_to_the_very_bytes(version: Path) -> None:
    base, delta = (version / "base.blob").read_bytes(), (version / "delta.blob").read_bytes()
    assert open_base(base, "base", LIMIT) == BEFORE
    assert open_chain([base, delta], ["base", "delta"], LIMIT) == AFTER


def test_manifests_of_every_format_say_the_same(version: Path) -> None:
    manifest = Manifest.from_json((version / "manifest.json").read_bytes(), where="golden")
    assert (manifest.id, manifest.digest, manifest.kept_as) == ("0123456789abcdef.1", digest(BEFORE), ("pin",))
    assert manifest.proof == proof_of((version / "base.blob").read_bytes())


def test_heads_of_every_format_say_the_same(version: Path) -> None:
    fields = json.loads((version / "head.json").read_bytes())
    head = Head.from_fields({name.encode(): value.encode() for name, value in fields.items()}, where="golden")
    assert head is not None
    assert (head.epoch, head.seq, head.live, head.manifest.digest) == (3, 2, 2, digest(AFTER))
    assert head.manifest.chain == (1, 2)
