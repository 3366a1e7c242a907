"""Sealed blobs: what Redis keeps of a snapshot, a whole state (*base*) or what changed since the one before (*delta*).

A blob proves each of its bits before anything is unpacked, and says how large it is before anybody allocates. A delta's
values are compressed with the values that they replace as the dictionary: most of a changed object is what it was
before, so a delta costs little more than what really changed. Whoever opens it therefore needs the state before, which
a restore has, because it goes along the chain.

Layout (docs/format.md): magic, version, kind, size of the index, size of the values, bytes of the compressed index; the
proof over that and all that follows; the compressed index; the compressed values. A base has no index.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import NotRequired, TypedDict

import msgspec
import orjson
import zstandard

from resonance.codec import encode_state, parse_state
from resonance.model.errors import StateNotUnderstood, StoreDamaged
from resonance.model.state import Delta, State

_MAGIC = b"RSNB"
_VERSION = 1
_BASE, _DELTA = b"B", b"D"
_FRONT = struct.Struct("<4sBcQQQ")
_PROOF_BYTES = 32
_LEVEL = 1
_DICTIONARY_BYTES = 4 << 20
"""The most that old values serve as a dictionary; beyond that compressing would cost more than it saves."""
_SLACK = 4096
"""Room beyond maxBytes for what an index adds around small states."""


class _Index(TypedDict):
    """What a delta says of its values. ``metrics`` is the size of the object afterwards, there only if it changed."""

    changed: dict[str, list[str]]
    lengths: list[int]
    removed: dict[str, list[str]]
    kinds: list[str]
    metrics: NotRequired[int | None]


def seal_base(state: State) -> bytes:
    """A whole state as one blob."""
    return seal_document(encode_state(state))


def seal_document(document: bytes) -> bytes:
    """The same for a state that is a compact document already."""
    return _seal(_BASE, b"", document, zstandard.compress(document, _LEVEL), 0)


def seal_delta(before: State, delta: Delta) -> bytes:
    """The changes since ``before`` as one blob."""
    values = [raw for entries in delta.changed.values() for raw in entries.values()]
    index: _Index = {
        "changed": {kind: list(entries) for kind, entries in delta.changed.items()},
        "lengths": [len(raw) for raw in values],
        "removed": {kind: list(ids) for kind, ids in delta.removed.items()},
        "kinds": list(delta.kinds),
    }
    if delta.metrics_changed:
        index["metrics"] = None if delta.metrics is None else len(delta.metrics)
        values.append(delta.metrics or b"")
    head = orjson.dumps(index)
    body = b"".join(values)
    packer = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_dictionary(before, index))
    return _seal(_DELTA, zstandard.compress(head, _LEVEL), body, packer.compress(body), len(head))


def _dictionary(before: State, index: _Index) -> zstandard.ZstdCompressionDict | None:
    """The old values of what changes, in the order of the index; None where there are none."""
    parts: list[bytes] = []
    for kind, ids in index["changed"].items():
        old = before.kinds.get(kind, {})
        parts += [old[key] for key in ids if key in old]
    if "metrics" in index and before.metrics is not None:
        parts.append(before.metrics)
    text = b"".join(parts)[:_DICTIONARY_BYTES]
    return zstandard.ZstdCompressionDict(text, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if len(text) >= 8 else None


def _seal(kind: bytes, index: bytes, body: bytes, packed: bytes, index_size: int) -> bytes:
    front = _FRONT.pack(_MAGIC, _VERSION, kind, index_size, len(body), len(index))
    return front + _prove(front, index + packed if index else packed) + index + packed


def _prove(front: bytes, rest: bytes | memoryview) -> bytes:
    proof = blake2b(front, digest_size=_PROOF_BYTES)
    proof.update(rest)
    return proof.digest()


def proof_of(blob: bytes) -> str:
    """The hex proof that a sealed blob carries; a manifest names it, so that no other blob can stand in for it."""
    return blob[_FRONT.size : _FRONT.size + _PROOF_BYTES].hex()


def open_base(blob: bytes | None, where: str, max_bytes: int) -> State:
    """The state in a base blob. Raises :class:`StoreDamaged` naming ``where``."""
    opened = _Opened(_BASE, blob, where, max_bytes)
    try:
        return parse_state(opened.body(None))
    except StateNotUnderstood as error:
        raise StoreDamaged(f"{where}: {error}") from error


def open_delta(blob: bytes | None, where: str, max_bytes: int, before: State) -> Delta:
    """The changes in a delta blob, which follow on ``before``. Raises :class:`StoreDamaged` naming ``where``."""
    opened = _Opened(_DELTA, blob, where, max_bytes)
    try:
        index = msgspec.json.decode(opened.index(), type=_Index)
        body = opened.body(_dictionary(before, index))
        lengths = iter(index["lengths"])
        at = 0
        changed: dict[str, dict[str, bytes]] = {}
        for kind, ids in index["changed"].items():
            entries = changed.setdefault(kind, {})
            for key in ids:
                size = next(lengths)
                entries[key] = body[at : at + size]
                at += size
        removed = {kind: tuple(ids) for kind, ids in index["removed"].items()}
        metrics = body[at:] if index.get("metrics") is not None else None
        return Delta(changed, removed, tuple(index["kinds"]), metrics, "metrics" in index)
    except (msgspec.DecodeError, UnicodeError, RecursionError, StopIteration) as error:
        raise StoreDamaged(f"{where}: not a delta ({type(error).__name__})") from error


def open_chain(blobs: Sequence[bytes | None], names: Sequence[str], max_bytes: int) -> State:
    """The state that a base and the deltas after it lead to. Raises :class:`StoreDamaged` naming the blob."""
    state = open_base(blobs[0], names[0], max_bytes)
    kinds: dict[str, dict[str, bytes]] = {kind: dict(entries) for kind, entries in state.kinds.items()}
    metrics = state.metrics
    for blob, name in zip(blobs[1:], names[1:], strict=True):
        delta = open_delta(blob, name, max_bytes, State(kinds, metrics))
        kinds = delta.put_into(kinds)
        metrics = delta.metrics if delta.metrics_changed else metrics
    return State(kinds, metrics)


class _Opened:
    """A blob whose every bit is proven, not yet unpacked."""

    def __init__(self, kind: bytes, blob: bytes | None, where: str, max_bytes: int) -> None:
        if blob is None:
            raise StoreDamaged(f"{where}: missing (evicted or deleted)")
        start = _FRONT.size + _PROOF_BYTES
        if len(blob) < start:
            raise StoreDamaged(f"{where}: cut to {len(blob)} bytes")
        magic, version, found, index_size, body_size, packed_index = _FRONT.unpack_from(blob)
        if magic != _MAGIC or found != kind:
            raise StoreDamaged(f"{where}: not a {'base' if kind == _BASE else 'delta'} blob")
        if version != _VERSION:
            raise StoreDamaged(f"{where}: format {version} is newer than this version reads (1). Upgrade the agent.")
        if max(index_size, body_size) > max_bytes * 2 + _SLACK:
            raise StoreDamaged(f"{where}: declares {max(index_size, body_size)} bytes, more than maxBytes allows")
        rest = memoryview(blob)[start:]
        if _prove(blob[: _FRONT.size], rest) != blob[_FRONT.size : start]:
            raise StoreDamaged(f"{where}: does not match its proof")
        self._where = where
        self._index, self._index_size = rest[:packed_index], index_size
        self._body, self._body_size = rest[packed_index:], body_size

    def index(self) -> bytes:
        """The index of a delta."""
        return self._unpack(self._index, self._index_size, None)

    def body(self, dictionary: zstandard.ZstdCompressionDict | None) -> bytes:
        """The values, which need the dictionary that they were compressed with."""
        return self._unpack(self._body, self._body_size, dictionary)

    def _unpack(self, packed: memoryview, size: int, dictionary: zstandard.ZstdCompressionDict | None) -> bytes:
        try:
            if zstandard.frame_content_size(packed) != size:
                raise StoreDamaged(f"{self._where}: is not as long as it declares")
            opener = zstandard.ZstdDecompressor(dict_data=dictionary)
            return opener.decompress(packed, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise StoreDamaged(f"{self._where}: does not decompress") from error
