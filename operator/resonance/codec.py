"""State ⇄ JSON: the documents that apps export and load (docs/contract.md).

Parsing slices the document and keeps each object's own bytes; nothing is decoded and encoded again on the way to a
snapshot or back, so numbers stay exact, also those that no double holds.
"""

from __future__ import annotations

import json
import math
import re
from codecs import utf_8_decode
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
import orjson

from resonance.model.errors import StateNotUnderstood
from resonance.model.naming import KIND_NAME, RESERVED_KINDS
from resonance.model.state import METRICS, Entries, State

_BRACE = ord("{")
_PIECE = 1 << 20

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_state(document: bytes) -> State:
    """The state in an export.

    Raises :class:`StateNotUnderstood` naming the place: not UTF-8, not JSON, NaN, duplicate kinds or ids, a kind that
    is not an object of objects, a reserved name.
    """
    _refuse_other_encodings(document, "the export")
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


def _refuse_other_encodings(document: bytes, what: str) -> None:
    """In pieces: the text of a large document is never needed as a whole, and takes up to four times its bytes."""
    at, view = 0, memoryview(document)
    while at < len(document) and not (at == 0 and document.isascii()):
        piece = view[at : at + _PIECE]
        try:
            at += utf_8_decode(piece, "strict", at + len(piece) == len(document))[1]
        except UnicodeDecodeError as error:
            where = f"byte {at + error.start}"
            raise StateNotUnderstood(where, f"{what} is not UTF-8. Encode it as UTF-8 JSON.") from None


def kinds_in_order(document: bytes) -> list[str]:
    """The names at the top of a document that has been parsed, ``metrics`` among them."""
    return list(_slices(document, "the export"))


def decode_object(document: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of one JSON object, each as its own bytes. Raises what the decoder raises, and ``RecursionError``.

    How deep the decoder can go depends on how deep its caller stands. A stack of its own has more room than any caller
    left, so that what was once read for a snapshot can be read at its restore.
    """
    try:
        return _object.decode(document)
    except RecursionError:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_object.decode, document).result()


def _slices(document: bytes | msgspec.Raw, where: str) -> dict[str, msgspec.Raw]:
    try:
        return decode_object(document)
    except RecursionError:
        raise StateNotUnderstood(where, "it is nested too deeply; some 900 levels can be read.") from None
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
    try:
        top: list[tuple[str, object]] = json.loads(document, object_pairs_hook=list)
    except RecursionError:
        raise StateNotUnderstood("the export", "it is nested too deeply; some 900 levels can be read.") from None
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
    """A state made of Python objects as a document.

    Raises :class:`StateNotUnderstood` for NaN, Infinity and what JSON cannot say (keys that are no strings, sets, …).
    """
    try:
        document = orjson.dumps(network)
    except TypeError as error:
        raise StateNotUnderstood("state", f"it cannot be written as JSON: {error}.") from None
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
    return b"".join(restore_file_parts(state, snapshot))


def restore_file_parts(state: State, snapshot: Mapping[str, object]) -> tuple[bytes | memoryview, ...]:
    """The same in parts, one after the other, without a copy of the document that a state came as."""
    last = b'"snapshot":' + orjson.dumps(dict(snapshot)) + b"}"
    if state.document is None:
        return (b"{", b",".join([*_members(state), last]))
    return (memoryview(state.document)[:-1], b"," if len(state.document) > 2 else b"", last)


def decode_restore_file(document: bytes) -> tuple[State, dict[str, object]]:
    """The state and the ``snapshot`` of a restore file. Raises :class:`StateNotUnderstood`."""
    _refuse_other_encodings(document, "the restore file")
    top = _slices(document, "restore file")
    raw = top.pop("snapshot", None)
    try:
        snapshot: object = orjson.loads(bytes(raw)) if raw is not None else {}
    except orjson.JSONDecodeError:
        snapshot = None
    if not isinstance(snapshot, dict):
        raise StateNotUnderstood("restore file, snapshot", "it must be a JSON object.")
    body = b"{" + b",".join(orjson.dumps(key) + b":" + bytes(value) for key, value in top.items()) + b"}"
    return parse_state(body), snapshot


def _members(state: State) -> list[bytes]:
    out = [orjson.dumps(kind) + b":" + _encode_entries(entries) for kind, entries in state.kinds.items()]
    if state.metrics is not None:
        out.append(b'"metrics":' + state.metrics)
    return out


def _encode_entries(entries: Entries) -> bytes:
    return b"{" + b",".join([orjson.dumps(key) + b":" + raw for key, raw in entries.items()]) + b"}"
