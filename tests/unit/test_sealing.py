"""What sealed blobs prove, and what opening them refuses."""

import secrets
import struct
from hashlib import blake2b

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_codec import STATES

from resonance.model.errors import StoreDamaged
from resonance.model.state import State, diff
from resonance.sealing import open_base, open_chain, open_delta, seal_base, seal_delta

LIMIT = 1 << 20


@given(STATES, STATES)
def test_sealed_blobs_open_to_what_was_sealed(before: State, after: State) -> None:
    assert open_base(seal_base(after), "x", LIMIT) == after
    delta = diff(before, after)
    opened = open_delta(seal_delta(before, delta), "x", LIMIT, before)
    assert (opened.changed, opened.removed, opened.kinds) == (delta.changed, delta.removed, delta.kinds)
    if delta.metrics_changed:
        assert (opened.metrics, opened.metrics_changed) == (delta.metrics, True)


SEALED = seal_base(State({"nodes": {f"n{i}": b'{"phase":%d}' % i for i in range(50)}}, b'{"t":1}'))


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_any_flipped_bit_of_a_blob_is_noticed(bit: int) -> None:
    damaged = bytearray(SEALED)
    damaged[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(StoreDamaged):
        open_base(bytes(damaged), "x", LIMIT)


@given(st.integers(0, len(SEALED) - 1))
def test_any_cut_of_a_blob_is_noticed(length: int) -> None:
    with pytest.raises(StoreDamaged):
        open_base(SEALED[:length], "x", LIMIT)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_not_crashed_on(junk: bytes) -> None:
    with pytest.raises(StoreDamaged):
        open_base(junk, "x", LIMIT)
    with pytest.raises(StoreDamaged):
        open_delta(junk, "x", LIMIT, State())


@given(STATES, STATES, STATES)
def test_a_chain_of_blobs_opens_to_the_last_state(one: State, two: State, three: State) -> None:
    blobs = [seal_base(one), seal_delta(one, diff(one, two)), seal_delta(two, diff(two, three))]
    assert open_chain(blobs, ["1", "2", "3"], LIMIT) == three


def test_a_delta_costs_little_more_than_what_really_changed() -> None:
    filler = secrets.token_hex(400).encode()
    nodes = {f"n{index}": b'{"phase":%d,"filler":"%s%d"}' % (index, filler, index) for index in range(100)}
    before = State({"nodes": nodes})
    after = State({"nodes": {key: raw.replace(b'"phase":', b'"phase":7') for key, raw in nodes.items()}})
    assert len(seal_delta(before, diff(before, after))) < 4_000


def test_a_delta_on_another_state_is_refused_or_gives_another_state() -> None:
    before = State({"nodes": {"a": b'{"v":"%s"}' % (b"x" * 50)}})
    after = State({"nodes": {"a": b'{"v":"%sy"}' % (b"x" * 50)}})
    blob = seal_delta(before, diff(before, after))
    assert open_delta(blob, "x", LIMIT, before).changed == after.kinds
    with pytest.raises(StoreDamaged):
        open_delta(blob, "x", LIMIT, State())


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.compress(b"\0" * (1 << 28), 3)
    for declared in (1 << 28, 100):
        blob = struct.pack("<4sBcQQQ", b"RSNB", 1, b"B", 0, declared, 0)
        blob = blob + blake2b(blob + bomb, digest_size=32).digest() + bomb
        with pytest.raises(StoreDamaged):
            open_base(blob, "x", LIMIT)


def test_a_newer_format_says_what_to_do() -> None:
    with pytest.raises(StoreDamaged, match="Upgrade the agent"):
        open_base(SEALED[:4] + b"\x02" + SEALED[5:], "x", LIMIT)
