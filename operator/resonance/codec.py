"""State ⇄ JSON: the documents that apps export and load (docs/contract.md).

Parsing slices the document and keeps each object's own bytes; nothing is decoded and encoded again on the way to a
snapshot or back, so numbers stay exact, also those that no double holds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping

import msgspec
import orjson

from resonance.model.errors import StateNotUnderstood
from resonance.model.naming import KIND_NAME, RESERVED_KINDS
from resonance.model.state import METRICS, Entries, State

_BRACE = ord("{")

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_state(document: bytes) -> State:
    """The state in an export.

    Raises :class:`StateNotUnderstood` naming the place: not UTF-8, not JSON, NaN, duplicate kinds or ids, a kind that
    is not an object of objects, a reserved name.
    """
    try:
        document.decode()
    except UnicodeDecodeError as error:
        raise StateNotUnderstood(f"byte {error.start}", "the export is not UTF-8. Encode it as UTF-8 JSON.") from None
    top = _slices(document, "the export")
    kinds: dict[str, Entries] = {}
    metrics: bytes | None = None
    length = _punctuation(top)
    for kind, raw in top.items():
        _check_kind(kind)
        if kind == METRICS:
            metrics = bytes(memoryview(raw))
            _check_objects(METRICS, {"": metrics})
            length += len(metrics)
            continue
        entries = {key: bytes(each) for key, each in _slices(raw, kind).items()}
        _check_objects(kind, entries)
        kinds[kind] = entries
        length += _punctuation(entries) + sum(map(len, entries.values()))
    if length == len(document):
        return State(kinds, metrics, document)
    _refuse_duplicates(document)
    return State(kinds, metrics)


def kinds_in_order(document: bytes) -> list[str]:
    """The names at the top of a document that has been parsed, ``metrics`` among them."""
    return list(_slices(document, "the export"))


def _slices(document: bytes | msgspec.Raw, where: str) -> dict[str, msgspec.Raw]:
    try:
        return _object.decode(document)
    except msgspec.ValidationError:
        raise StateNotUnderstood(
            where, "it must be a JSON object. See the app's contract in docs/contract.md."
        ) from None
    except msgspec.DecodeError as error:
        place = re.search(r"byte (\d+)", str(error))
        at = f"{where}, byte {place[1]}" if place else where
        raise StateNotUnderstood(at, "it is not JSON (NaN, Infinity and cut documents are refused).") from None


def _punctuation(entries: Iterable[str]) -> int:
    """Bytes of braces, keys, colons and commas of a compact object with these ASCII-plain keys."""
    keys = list(entries)
    return 2 + sum(len(key.encode()) + 3 for key in keys) + max(0, len(keys) - 1)


def _check_kind(kind: str) -> None:
    if kind != METRICS and kind in RESERVED_KINDS:
        raise StateNotUnderstood(kind, "this name is reserved. Leave it out of the export or rename the kind.")
    if not KIND_NAME.match(kind):
        shown = kind[:64]
        raise StateNotUnderstood(shown, "a kind's name is a letter, then up to 62 letters, digits, '_' or '-'.")


def _check_objects(kind: str, entries: Entries) -> None:
    for key, raw in entries.items():
        if raw[0] != _BRACE:
            where = f"{kind}.{key}" if key else kind
            raise StateNotUnderstood(where, 'each entry must be a JSON object, for example {"value": 1}.')


def _refuse_duplicates(document: bytes) -> None:
    """The slow path for documents with white space or escaped keys: the first repeated kind or id."""
    top: list[tuple[str, object]] = json.loads(document, object_pairs_hook=list)
    _refuse_twice("the export", [key for key, _ in top])
    for kind, entries in top:
        if kind != METRICS and isinstance(entries, list):
            _refuse_twice(kind, [key for key, _ in entries])


def _refuse_twice(where: str, keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise StateNotUnderstood(f"{where}, key {key!r}", "it stands twice in one object. Write each key once.")
        seen.add(key)


def encode_state(state: State) -> bytes:
    """The state as one compact JSON document, objects as the app wrote them."""
    if state.document is not None:
        return state.document
    return b"{" + b",".join(_members(state)) + b"}"


def encode_network(network: Mapping[str, object]) -> bytes:
    """A state made of Python objects as a document. Raises :class:`StateNotUnderstood` for NaN and Infinity."""
    document = orjson.dumps(network)
    if b"null" in document:
        _refuse_nan(network, "state")
    return document


def _refuse_nan(value: object, where: str) -> None:
    """The encoder writes NaN and Infinity as null, which would lose them in silence."""
    if isinstance(value, float) and not math.isfinite(value):
        raise StateNotUnderstood(where, "NaN and Infinity are not JSON. Save a number, or leave the key out.")
    if isinstance(value, Mapping):
        for key, each in value.items():
            _refuse_nan(each, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _refuse_nan(each, f"{where}[{index}]")


def encode_restore_file(state: State, snapshot: Mapping[str, object]) -> bytes:
    """What ``$RESONANCE_RESTORE_FILE`` holds: the state plus ``"snapshot"``."""
    return b"{" + b",".join([*_members(state), b'"snapshot":' + orjson.dumps(dict(snapshot))]) + b"}"


def decode_restore_file(document: bytes) -> tuple[State, dict[str, object]]:
    """The state and the ``snapshot`` of a restore file. Raises :class:`StateNotUnderstood`."""
    top = _slices(document, "restore file")
    raw = top.pop("snapshot", None)
    snapshot = orjson.loads(bytes(raw)) if raw is not None else {}
    body = b"{" + b",".join(orjson.dumps(key) + b":" + bytes(value) for key, value in top.items()) + b"}"
    return parse_state(body), snapshot


def _members(state: State) -> list[bytes]:
    out = [orjson.dumps(kind) + b":" + _encode_entries(entries) for kind, entries in state.kinds.items()]
    if state.metrics is not None:
        out.append(b'"metrics":' + state.metrics)
    return out


def _encode_entries(entries: Entries) -> bytes:
    return b"{" + b",".join([orjson.dumps(key) + b":" + raw for key, raw in entries.items()]) + b"}"
