"""What the codec accepts, refuses and proves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.codec import decode_restore_file, encode_restore_file, encode_state, parse_state
from resonance.model.errors import StateNotUnderstood
from resonance.model.state import State

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=3).map(lambda value: json.dumps(value, ensure_ascii=False).encode())
KIND = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_-]{0,8}\Z").filter(
    lambda kind: kind not in {"metrics", "head", "snapshots", "snapshot", "kept", "report", "quarantine"}
)
STATES = st.builds(
    State, st.dictionaries(KIND, st.dictionaries(st.text(), OBJECTS, max_size=4), max_size=3), st.none() | OBJECTS
)


@given(STATES)
def test_what_is_encoded_is_parsed_back_to_the_very_bytes(state: State) -> None:
    assert parse_state(encode_state(state)) == state


@given(STATES)
def test_a_restore_file_is_the_state_and_its_snapshot(state: State) -> None:
    snapshot = {"id": "line.7", "takenAt": "2026-01-01T00:00:00.000+00:00"}
    document = encode_restore_file(state, snapshot)
    assert decode_restore_file(document) == (state, snapshot)
    assert json.loads(document)["snapshot"] == snapshot


@given(
    st.binary(max_size=200) | st.text(alphabet='{}[]":,0123456789.eE-+ntruefalsn\\u \n', max_size=60).map(str.encode)
)
def test_any_document_is_parsed_or_refused(junk: bytes) -> None:
    try:
        parse_state(junk)
    except StateNotUnderstood:
        return
    json.loads(junk)


WRONG: list[tuple[str, bytes, str]] = [
    ("not JSON", b"hello", "not JSON"),
    ("a cut document", b'{"nodes":{"a":{', "not JSON"),
    ("a list", b"[]", "must be a JSON object"),
    ("a kind that is a list", b'{"nodes":[]}', "nodes: it must be a JSON object"),
    ("an entry that is a number", b'{"nodes":{"a":1}}', "nodes.a: each entry must be a JSON object"),
    ("metrics that are a list", b'{"metrics":[]}', "metrics: each entry"),
    ("NaN", b'{"nodes":{"a":{"x":NaN}}}', "not JSON"),
    ("bytes that are not UTF-8", b'{"nodes":{"a":{"x":"\xff"}}}', "byte 20"),
    ("a lone surrogate", b'{"nodes":{"a":{"x":"\\ud800"}}}', "not JSON"),
    ("a repeated kind", b'{"nodes":{},"nodes":{}}', "stands twice"),
    ("a repeated id", b'{"nodes":{"a":{},"a":{}}}', "nodes, key 'a'"),
    ("a repeated id in other spelling", b'{"nodes":{"a":{}, "\\u0061":{}}}', "nodes, key 'a'"),
    ("a reserved kind", b'{"head":{}}', "reserved"),
    ("the snapshot of a restore file", b'{"snapshot":{}}', "Leave it out"),
    ("a kind with a colon", b'{"a:b":{}}', "a kind's name"),
]


@pytest.mark.parametrize(("document", "words"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_what_is_not_a_state_is_refused_with_the_place(document: bytes, words: str) -> None:
    with pytest.raises(StateNotUnderstood) as caught:
        parse_state(document)
    assert words in str(caught.value)


def test_white_space_and_any_number_keep_their_very_bytes() -> None:
    document = b' { "nodes" : { "a" : {"x": 0.1, "y":1.0E5 , "z":1e999} } } '
    assert parse_state(document).kinds["nodes"]["a"] == b'{"x": 0.1, "y":1.0E5 , "z":1e999}'


def test_a_hundred_thousand_entries_and_one_of_five_megabytes() -> None:
    many = State(
        {
            "nodes": {f"n{i}": b'{"i":%d}' % i for i in range(100_000)},
            "big": {"one": b'{"p":"%s"}' % (b"x" * 5_000_000)},
        }
    )
    assert parse_state(encode_state(many)) == many
