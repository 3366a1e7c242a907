"""Reading again gives exactly what reading anew gives."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.codec import parse_state
from resonance.model.errors import StateNotUnderstood
from resonance.reading import Reading, read

IDS = st.sampled_from(["a", "b", "c", "ab", 'q"', "é", ""])
VALUES = st.recursive(
    st.integers(0, 2) | st.sampled_from(["", "}", ',"b":', '{"a":1}']),
    lambda inner: st.dictionaries(IDS, inner, max_size=2) | st.lists(inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(IDS, VALUES, max_size=2)
NETWORKS = st.fixed_dictionaries(
    {}, optional={"nodes": st.dictionaries(IDS, OBJECTS), "fields": st.dictionaries(IDS, OBJECTS), "metrics": OBJECTS}
)


def compact(network: dict[str, Any]) -> bytes:
    return json.dumps(network, separators=(",", ":"), ensure_ascii=False).encode()


@given(st.lists(NETWORKS | st.just({}), min_size=1, max_size=4), st.data())
def test_any_sequence_of_documents_reads_as_each_would_alone(
    networks: list[dict[str, Any]], data: st.DataObject
) -> None:
    before: Reading | None = None
    for network in networks:
        document = compact(network)
        if data.draw(st.booleans()):
            document = document.replace(b":", b": ", 1)
        before = read(document, before)
        assert before.state == parse_state(document)


@given(NETWORKS, st.data())
def test_any_change_of_some_entries_reads_as_the_whole_would(network: dict[str, Any], data: st.DataObject) -> None:
    first = read(compact(network), None)
    changed = {
        kind: data.draw(OBJECTS)
        if kind == "metrics"
        else {key: data.draw(st.just(value) | OBJECTS) for key, value in entries.items()}
        for kind, entries in network.items()
    }
    again = read(compact(changed), first)
    assert again.state == parse_state(compact(changed))
    third = read(compact(network), again)
    assert third.state == first.state


@given(NETWORKS, st.data())
def test_a_document_damaged_anywhere_is_refused_or_read_as_it_would_be_alone(
    network: dict[str, Any], data: st.DataObject
) -> None:
    document = compact(network)
    first = read(document, None)
    at = data.draw(st.integers(0, len(document) - 1))
    damaged = document[:at] + data.draw(st.binary(max_size=2)) + document[at + data.draw(st.integers(0, 2)) :]
    try:
        expected = parse_state(damaged)
    except StateNotUnderstood:
        with pytest.raises(StateNotUnderstood):
            read(damaged, first)
        return
    assert read(damaged, first).state == expected


def test_a_large_document_with_few_changes_shares_what_did_not_change() -> None:
    network: dict[str, Any] = {"nodes": {f"n{index}": {"phase": index, "near": {"n5": 1}} for index in range(1000)}}
    first = read(compact(network), None)
    for key in ("n0", "n500", "n999"):
        network["nodes"][key] = {"phase": -1, "near": {"n501": "longer than before"}}
    again = read(compact(network), first)
    assert again.state == parse_state(compact(network))
    old, new = first.state.kinds["nodes"], again.state.kinds["nodes"]
    assert sum(old[key] is new[key] for key in old) == 997
    assert read(compact(network), again).layout is again.layout


def test_a_new_entry_and_a_document_with_white_space_are_read_as_a_whole() -> None:
    first = read(b'{"nodes":{"a":{}}}', None)
    assert read(b'{"nodes":{"a":{},"b":{}}}', first).state == parse_state(b'{"nodes":{"a":{},"b":{}}}')
    assert read(b'{"nodes": {"a":{}}}', first).layout is None
