"""Reading an export again: only what changed since the one before is parsed.

The argument: an app that changes one node in a hundred writes the other ninety-nine as the same bytes in the same
order. A compact document is a sequence of *literals* (braces, keys, commas) and *entries* (the objects). Walking the
old sequence along the new document, blocks of equal bytes are passed over at the speed of memory; a differing entry
must end where the next literal begins, and must be an object of its own. If anything does not fit, the whole document
is parsed as if it were the first: the answer is the same, only later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import orjson

from resonance.codec import decode_object, kinds_in_order, parse_state
from resonance.model.state import METRICS, State

_BLOCK = 16
"""Entries that are compared at once; a block with a difference costs so many single comparisons."""
LARGE = 16 << 20
"""A document that is not kept until the next one comes, although comparing with it is a little quicker."""
_CANDIDATES = 8
"""How often an entry may contain the text that ends it before the whole document is parsed instead."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a compact document is put together.

    ``places[i]`` is the (kind, id) of the entry after ``literals[i]``; the last literal ends the document.
    """

    literals: Sequence[bytes]
    places: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A state and the document that it came as; its layout is made when the next document comes.

    Without the document (:func:`lightened`) each entry is compared with its own bytes.

    ``entries[i]`` are the bytes at ``layout.places[i]``; ``marks`` is where each block of entries begins, and the end.
    """

    state: State
    document: bytes | None
    layout: Layout | None
    entries: Sequence[bytes]
    marks: Sequence[int]


def read(document: bytes, before: Reading | None) -> Reading:
    """The state in an export. ``before`` only makes it quicker.

    Raises :class:`StateNotUnderstood` as :func:`resonance.codec.parse_state` does.
    """
    if before is not None and (before.layout is not None or before.state.document is not None):
        known = _laid_out(before)
        again = _walk(document, known, known.layout) if known.layout is not None else None
        if again is not None:
            return again
    return Reading(parse_state(document), document, None, (), ())


def lightened(reading: Reading) -> Reading:
    """The same for keeping until the next document comes: of a large one the entries are enough, and half of it."""
    if reading.document is None or len(reading.document) <= LARGE:
        return reading
    known = _laid_out(reading) if reading.state.document is not None else reading
    return replace(known, state=replace(known.state, document=None), document=None)


def _laid_out(reading: Reading) -> Reading:
    """The same reading with its layout; without one if the document is not what its parts say."""
    if reading.layout is not None or reading.document is None:
        return reading
    layout, entries = _lay_out(reading.state)
    marks = _marks(layout, entries)
    if marks[-1] + len(layout.literals[-1]) != len(reading.document):
        return reading
    return replace(reading, layout=layout, entries=entries, marks=marks)


def _lay_out(state: State) -> tuple[Layout, list[bytes]]:
    """The literals of a compact document follow from its keys and their order."""
    literals: list[bytes] = []
    places: list[tuple[str, str]] = []
    entries: list[bytes] = []
    text = b"{"
    for number, kind in enumerate(kinds_in_order(state.document or b"{}")):
        text += (b"," if number else b"") + orjson.dumps(kind) + b":"
        if kind == METRICS:
            literals.append(text)
            places.append((METRICS, ""))
            entries.append(state.metrics or b"")
            text = b""
            continue
        text += b"{"
        for key, raw in state.kinds[kind].items():
            literals.append(text + orjson.dumps(key) + b":")
            places.append((kind, key))
            entries.append(raw)
            text = b","
        text = b"}" if state.kinds[kind] else text + b"}"
    literals.append(text + b"}")
    return Layout(literals, places), entries


def _marks(layout: Layout, entries: Sequence[bytes]) -> list[int]:
    at = 0
    marks: list[int] = []
    for index, raw in enumerate(entries):
        if index % _BLOCK == 0:
            marks.append(at)
        at += len(layout.literals[index]) + len(raw)
    return [*marks, at]


def _walk(document: bytes, before: Reading, layout: Layout) -> Reading | None:
    """Go through the new document along the old one; None when it is not put together in the same way."""
    old, marks = before.document, before.marks
    at = 0
    new_marks: list[int] = []
    changed: dict[int, bytes] = {}
    for block, start in enumerate(range(0, len(layout.places), _BLOCK)):
        new_marks.append(at)
        begin, end = marks[block], marks[block + 1]
        if old is not None and document[at : at + end - begin] == old[begin:end]:
            at += end - begin
            continue
        after = _walk_block(
            document, at, before, layout, range(start, min(start + _BLOCK, len(layout.places))), changed
        )
        if after is None:
            return None
        at = after
    if document[at:] != layout.literals[-1]:
        return None
    return _advance(document, before, layout, changed, [*new_marks, at])


def _walk_block(
    document: bytes, at: int, before: Reading, layout: Layout, block: range, changed: dict[int, bytes]
) -> int | None:
    """Where the block ends in the new document; what differs in it is put into ``changed``."""
    for index in block:
        literal, raw, following = layout.literals[index], before.entries[index], layout.literals[index + 1]
        if not document.startswith(literal, at):
            return None
        at += len(literal)
        if document.startswith(raw, at) and document.startswith(following, at + len(raw)):
            at += len(raw)
            continue
        fresh = _entry(document, at, following)
        if fresh is None:
            return None
        changed[index] = fresh
        at += len(fresh)
    return at


def _entry(document: bytes, at: int, following: bytes) -> bytes | None:
    """The object at ``at``, which ends where ``following`` begins. An object is whole in one way only."""
    end = at
    for _ in range(_CANDIDATES):
        end = document.find(following, end + 1)
        if end < 0:
            return None
        candidate = document[at:end]
        if candidate[:1] != b"{" or candidate[-1:] != b"}":
            continue
        try:
            candidate.decode()
            decode_object(candidate)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return candidate
    return None


def _advance(document: bytes, before: Reading, layout: Layout, changed: dict[int, bytes], marks: list[int]) -> Reading:
    kinds = dict(before.state.kinds)
    metrics = before.state.metrics
    entries = list(before.entries)
    fresh: dict[str, dict[str, bytes]] = {}
    for index, raw in changed.items():
        kind, key = layout.places[index]
        entries[index] = raw
        if kind == METRICS:
            metrics = raw
        else:
            fresh.setdefault(kind, {})[key] = raw
    for kind, values in fresh.items():
        kinds[kind] = {**kinds[kind], **values}
    return Reading(State(kinds, metrics, document), document, layout, entries, marks)
