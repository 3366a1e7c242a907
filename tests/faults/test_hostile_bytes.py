"""Bytes that somebody else wrote: refused with one of our errors, never a crash, never more memory than declared.

Two kinds of hostility: any bytes at all, and valid things with something changed inside, which get past the front door.
"""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resonance.codec import decode_restore_file, encode_restore_file, encode_state, parse_state
from resonance.engine.writer import Writer
from resonance.model.claim import Reservation, SlotRecord
from resonance.model.commit import Proof
from resonance.model.errors import ResonanceError, StateNotUnderstood, StoreDamaged
from resonance.model.manifest import Head, Manifest
from resonance.model.report import Outcome, Report
from resonance.model.retention import append
from resonance.model.state import State, diff, digest
from resonance.reading import read
from resonance.sealing import open_base, open_chain, open_delta, seal_base, seal_delta
from resonance.store.aside import Aside, parse_asides
from resonance.store.member import load
from resonance.store.restore import restore
from resonance.store.workload import PolicyRecord, read_workload
from resonance.testing import MemoryKeyspace
from tests.faults.world import KEYS, MEMBER

MANY = settings(max_examples=2_000)
SOME = settings(max_examples=600)
LIMIT = 1 << 20

BEFORE = State({"nodes": {f"n{each}": b'{"phase":%d}' % each for each in range(30)}, "fields": {}}, b'{"t":1}')
AFTER = State({"nodes": {f"n{each}": b'{"phase":%d}' % (each * 7) for each in range(28)}, "ü": {}}, b'{"t":2}')
AFTER = State({"nodes": AFTER.kinds["nodes"], "more": {"x": b'{"s":"\xc3\xbc"}'}}, AFTER.metrics)
DOCUMENT = encode_state(BEFORE)
BLOBS = [seal_base(BEFORE), seal_delta(BEFORE, diff(BEFORE, AFTER))]

T = TypeVar("T")


def tried(call: Callable[[], T]) -> tuple[T | None, str]:
    """What the call gives, or the text of its refusal. Any other exception is a crash."""
    try:
        return call(), ""
    except ResonanceError as refused:
        return None, str(refused)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def edited(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with some places cut out, doubled or overwritten."""
    out = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(out)))
        size = draw(st.integers(0, 8))
        fresh = draw(
            st.binary(max_size=4) | st.sampled_from([b"{", b"}", b'"', b",", b"\\", b"[", b"NaN", b"\xff", b":{}"])
        )
        out[at : at + size] = fresh
    return bytes(out)


@st.composite
def altered(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """The JSON record with some fields gone or of any other value."""
    out = dict(record)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(record)))
        if draw(st.booleans()):
            out[name] = draw(VALUES)
        else:
            out.pop(name, None)
    return json.dumps(out).encode()


# ------------------------------------------------------------------------------------------------------------ documents
@MANY
@given(st.binary(max_size=300) | edited(DOCUMENT))
def test_an_export_is_parsed_or_refused_and_what_is_parsed_can_be_restored(document: bytes) -> None:
    try:
        state = parse_state(document)
    except StateNotUnderstood:
        return
    assert open_base(seal_base(state), "x", LIMIT) == state
    json.loads(encode_state(state))


@MANY
@given(edited(DOCUMENT))
@example(DOCUMENT.replace(b'{"phase":3}', b'{"phase":"\xff"}'))
@example(DOCUMENT.replace(b'{"phase":3}', b'{"phase":%s}' % (b"[" * 1010 + b"]" * 1010)))
def test_reading_an_export_again_says_what_reading_it_first_would_say(document: bytes) -> None:
    again = tried(lambda: read(document, read(DOCUMENT, None)).state)
    assert again == tried(lambda: parse_state(document))


@SOME
@given(st.binary(max_size=200) | edited(encode_restore_file(BEFORE, {"id": "line.1", "commit": "c"})))
@example(b'{"snapshot":5}')
@example(b'{"snapshot":"\\ud800"}')
def test_a_restore_file_is_read_or_refused(document: bytes) -> None:
    try:
        _, snapshot = decode_restore_file(document)
    except StateNotUnderstood:
        return
    assert isinstance(snapshot, dict)


@pytest.mark.parametrize("depth", [200, 800, 950, 1100, 200_000])
def test_a_nested_state_that_is_accepted_in_a_shallow_stack_is_restored_in_a_deep_one(depth: int) -> None:
    document = b'{"nodes":{"a":{"x":%s}}}' % (b"[" * depth + b"]" * depth)
    state, refusal = tried(lambda: parse_state(document))
    if state is None:
        assert depth > 900
        assert "nested too deeply" in refusal
        return
    assert deep(600, lambda: open_base(seal_base(state), "x", 4 * depth + LIMIT)) == state


def deep(levels: int, call: Callable[[], State]) -> State:
    """The call from so many levels down the stack."""
    return call() if levels == 0 else deep(levels - 1, call)


# ---------------------------------------------------------------------------------------------------------------- blobs
@MANY
@given(st.binary(max_size=300) | edited(BLOBS[0]) | edited(BLOBS[1]))
def test_a_blob_is_what_was_sealed_or_is_refused(blob: bytes) -> None:
    for call in (lambda: open_base(blob, "x", LIMIT), lambda: open_delta(blob, "x", LIMIT, BEFORE)):
        if blob not in BLOBS:
            with pytest.raises(StoreDamaged, match="x"):
                call()


def sealed(kind: bytes, index: bytes, body: bytes, *, sizes: tuple[int, int] | None = None) -> bytes:
    """A blob whose proof is right, whatever is in it: what somebody would write who knows the format."""
    packed_index = zstandard.compress(index) if index else b""
    packed = zstandard.compress(body)
    index_size, body_size = sizes if sizes is not None else (len(index), len(body))
    front = struct.pack("<4sBcQQQ", b"RSNB", 1, kind, index_size, body_size, len(packed_index))
    return front + blake2b(front + packed_index + packed, digest_size=32).digest() + packed_index + packed


INDEX = {
    "changed": {"nodes": ["n1", "n2"]},
    "lengths": [2, 2],
    "removed": {"nodes": ["n3"]},
    "kinds": ["nodes"],
    "metrics": 2,
}


@MANY
@given(altered(INDEX) | VALUES.map(json.dumps).map(str.encode), st.binary(max_size=12))
@example(json.dumps({**INDEX, "changed": {"nodes": [1, 2]}}).encode(), b"{}{}{}")
@example(json.dumps({**INDEX, "kinds": [["x"]]}).encode(), b"{}{}{}")
def test_a_well_sealed_blob_with_any_index_is_opened_or_refused(index: bytes, body: bytes) -> None:
    state, refusal = tried(lambda: open_chain([BLOBS[0], sealed(b"D", index, body)], ["base", "delta"], LIMIT))
    assert "delta" in refusal if state is None else digest(state)


@SOME
@given(edited(DOCUMENT) | st.binary(max_size=50))
def test_a_well_sealed_base_with_any_document_is_opened_or_refused(document: bytes) -> None:
    try:
        digest(open_base(sealed(b"B", b"", document), "x", LIMIT))
    except StoreDamaged:
        return


BOMB = b"\0" * (1 << 28)


@pytest.mark.parametrize("declared", [1 << 28, 1 << 60, 100, 0])
@pytest.mark.parametrize("opener", ["base", "body", "index"])
def test_a_bomb_never_takes_more_memory_than_was_declared(opener: str, declared: int) -> None:
    good = json.dumps(INDEX).encode()
    blob = {
        "base": lambda: sealed(b"B", b"", BOMB, sizes=(0, declared)),
        "body": lambda: sealed(b"D", good, BOMB, sizes=(len(good), declared)),
        "index": lambda: sealed(b"D", BOMB, b"", sizes=(declared, 0)),
    }[opener]()
    opened = (
        (lambda: open_base(blob, "x", LIMIT)) if opener == "base" else (lambda: open_delta(blob, "x", LIMIT, BEFORE))
    )
    assert peak_of(opened) < 4 * LIMIT


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that Python held during a call that must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ResonanceError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "document",
    [
        b"[" * LIMIT,
        b'{"nodes":' + b"[" * LIMIT,
        b'{"nodes":{"a":' * (LIMIT // 14),
        b'{"nodes":{' + b'"a":{},' * (LIMIT // 7) + b'"a":{}}}',
        b'{"nodes":{"a":{"x":' + b"9" * LIMIT + b"NaN}}}",
    ],
    ids=["lists", "lists in a kind", "objects", "one id for ever", "a long number"],
)
def test_a_document_that_is_refused_takes_no_more_than_a_few_times_its_size(document: bytes) -> None:
    assert peak_of(lambda: parse_state(document)) < 40 * LIMIT


# -------------------------------------------------------------------------------------------------------------- records
MANIFEST = Manifest(
    seq=2,
    commit="c2",
    line="l",
    parent="c1",
    incarnation="l",
    digest="0" * 32,
    counts={"nodes": 1},
    state_bytes=1,
    stored_bytes=1,
    chain=(1, 2),
    proof="00",
    taken_at_ms=1,
    writer="w",
    pod="p",
    epoch=1,
    base_bytes=1,
    deltas_bytes=1,
)
SLOT = SlotRecord("web-0", "uid", "pod", "t", 1, 2, Reservation("new", "pod", "t", 2))
POLICY = PolicyRecord("cluster", "uid", 1, 1000, wanted=2, live=("a",), known={"web-0": 3})
REPORT = Report(Outcome.SAVED, "", "uid", "pod", "node", "agent", "1", 1000)
ANY = st.binary(max_size=100) | VALUES.map(json.dumps).map(str.encode)


@MANY
@given(ANY | altered(json.loads(MANIFEST.to_json())) | edited(MANIFEST.to_json().encode()))
@example(json.dumps({**json.loads(MANIFEST.to_json()), "taken_at_ms": 10**18}).encode())
@example(json.dumps({**json.loads(MANIFEST.to_json()), "chain": []}).encode())
@example(b"[" * 100_000)
def test_a_manifest_that_is_read_can_be_decided_upon(text: bytes) -> None:
    made, refusal = tried(lambda: Manifest.from_json(text, where="P:snapshots"))
    if made is None:
        assert "P:snapshots" in refusal
        return
    Head(made.epoch, made.writer, made).to_fields()
    keyspace = MemoryKeyspace()
    keyspace.data[MEMBER.keys.snapshots] = [made.to_json().encode(), MANIFEST.to_json().encode()]
    seen = load(keyspace, MEMBER)
    assert seen.record.head is not None
    append(seen.record, seen.record.head, tip=True)
    restore(keyspace, MEMBER, seen, max_bytes=LIMIT)


FIELDS = {name.encode(): value.encode() for name, value in Head(1, "w", MANIFEST, "i", 2, 2, 0).to_fields().items()}


@SOME
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), ANY | st.integers().map(lambda each: b"%d" % each), max_size=3))
def test_a_head_that_cannot_be_read_is_named_and_a_commit_goes_on_or_says_so(changes: dict[bytes, bytes]) -> None:
    keyspace = MemoryKeyspace()
    keyspace.data[MEMBER.keys.head] = {**FIELDS, **changes}
    keyspace.data[MEMBER.keys.snapshots] = [MANIFEST.to_json().encode()]
    seen = load(keyspace, MEMBER)
    assert seen.record.head is not None
    writer = Writer(keyspace, MEMBER, uid="w", pod="p", epoch=10**30, files={})
    writer.learn()
    try:
        writer.commit(writer.prepare(DOCUMENT, Proof("i2", "l.2"), taken_at_ms=1))
    except ResonanceError:
        return
    load(keyspace, MEMBER)


@SOME
@given(st.dictionaries(st.binary(max_size=8), ANY | altered(json.loads(SLOT.to_json())), max_size=3), ANY, ANY)
def test_a_workload_is_read_or_the_damaged_record_is_named(
    slots: dict[bytes, bytes], policy: bytes, waiting: bytes
) -> None:
    keyspace = MemoryKeyspace()
    keyspace.data = {KEYS.slots: slots, KEYS.waiting: {b"uid": waiting, b"\xff": b"{}"}}
    if policy:
        keyspace.data[KEYS.policy] = policy
    found, refusal = tried(lambda: read_workload(keyspace, KEYS))
    assert found is not None or "slot" in refusal or "policy" in refusal


@SOME
@given(ANY | altered(json.loads(POLICY.to_json())) | edited(POLICY.to_json().encode()))
def test_a_policy_record_is_read_with_its_types_or_refused(text: bytes) -> None:
    try:
        made = PolicyRecord.from_json(text, where="W:policy")
    except StoreDamaged:
        return
    assert made is not None
    assert all(isinstance(each, str) for each in made.live)
    assert isinstance(made.every_ms, int)
    made.to_json()


@SOME
@given(st.dictionaries(st.sampled_from(sorted(REPORT.to_fields())), ANY, max_size=3))
def test_a_report_is_read_with_its_types_or_refused(changes: dict[str, bytes]) -> None:
    raw = {**{name.encode(): value.encode() for name, value in REPORT.to_fields().items()}}
    raw.update({name.encode(): value for name, value in changes.items()})
    try:
        made = Report.from_fields(raw, where="P:report")
    except StoreDamaged:
        return
    assert made is not None
    assert isinstance(made.outcome, Outcome)


@SOME
@given(
    st.dictionaries(
        st.binary(max_size=5), ANY | altered(json.loads(Aside("u", "p", "l.1", 1, 1).to_json())), max_size=3
    )
)
def test_what_is_aside_is_read_with_its_types_or_refused(raw: dict[bytes, bytes]) -> None:
    try:
        made = parse_asides(raw, where="P:aside")
    except StoreDamaged:
        return
    assert all(isinstance(each.gap_ms, int) for each in made)
