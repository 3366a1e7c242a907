"""What a state is, how two states differ, and the digest that proves one.

A state is *kinds* of id → object, and one object ``metrics``. Every object is kept as the very bytes that the app
wrote: numbers are never re-encoded, so a restored process reads exactly what the old one wrote.

The digest is the sum, modulo 2¹²⁸, of one XXH3-128 per entry over its bytes, seeded by its kind and id. A sum can be
moved from one state to the next by subtracting what left and adding what came, so its cost follows the change and not
the size. It guards against damage and mix-ups, not against somebody who can write to Redis: they could rewrite the
digest itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

METRICS = "metrics"
_MODULUS = 1 << 128

Entries = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class State:
    """One resonance network: ``kinds`` maps kind → id → JSON bytes of an object; ``metrics`` is JSON bytes or None."""

    kinds: Mapping[str, Entries] = field(default_factory=dict)
    metrics: bytes | None = None
    document: bytes | None = field(default=None, compare=False, repr=False)
    """The compact JSON document that says the same, where the state came as one; saves writing it again."""

    def entries(self) -> Iterator[tuple[str, str, bytes]]:
        """Every entry as (kind, id, bytes); metrics come last under kind ``metrics`` and an empty id."""
        for kind, entries in self.kinds.items():
            for key, raw in entries.items():
                yield kind, key, raw
        if self.metrics is not None:
            yield METRICS, "", self.metrics

    def counts(self) -> dict[str, int]:
        """Entries per kind. Empty kinds are listed, so that a restored state has them too."""
        return {kind: len(entries) for kind, entries in self.kinds.items()}

    def size(self) -> int:
        """Bytes of all ids and objects, without JSON punctuation."""
        total = sum(sum(map(len, entries)) + sum(map(len, entries.values())) for entries in self.kinds.values())
        return total + len(self.metrics or b"")


EMPTY = State()


@dataclass(frozen=True, slots=True)
class Delta:
    """What leads from one state to the next.

    ``changed``: kind → id → new bytes. ``removed``: kind → ids. ``kinds``: the names of all kinds afterwards.
    ``metrics``: the object afterwards, or None; ``metrics_changed`` says whether it differs from before.
    """

    changed: Mapping[str, Entries]
    removed: Mapping[str, tuple[str, ...]]
    kinds: tuple[str, ...]
    metrics: bytes | None
    metrics_changed: bool

    def size(self) -> int:
        """Bytes of what changed, comparable with :meth:`State.size`."""
        total = sum(sum(map(len, entries)) + sum(map(len, entries.values())) for entries in self.changed.values())
        total += sum(sum(map(len, ids)) for ids in self.removed.values())
        return total + (len(self.metrics or b"") if self.metrics_changed else 0)

    def put_into(self, kinds: dict[str, dict[str, bytes]]) -> dict[str, dict[str, bytes]]:
        """``kinds`` after this change; the inner dicts are changed in place."""
        for kind, ids in self.removed.items():
            for key in ids:
                kinds.get(kind, {}).pop(key, None)
        after = {kind: kinds.get(kind, {}) for kind in self.kinds}
        for kind, entries in self.changed.items():
            after.setdefault(kind, {}).update(entries)
        return after

    def empty(self, before: State) -> bool:
        """True when nothing differs from ``before``."""
        return not (self.changed or self.removed or self.metrics_changed or set(self.kinds) != set(before.kinds))


def diff(before: State, after: State) -> Delta:
    """What changed, by comparing bytes; ``apply(before, diff(before, after)) == after``."""
    changed: dict[str, dict[str, bytes]] = {}
    removed: dict[str, tuple[str, ...]] = {}
    nothing: Entries = {}
    for kind, entries in after.kinds.items():
        old = before.kinds.get(kind, nothing)
        get = old.get
        new = {key: raw for key, raw in entries.items() if get(key) != raw}
        if new:
            changed[kind] = new
        if len(old) != len(entries) or not old.keys() <= entries.keys():
            gone = tuple(key for key in old if key not in entries)
            if gone:
                removed[kind] = gone
    for kind, old in before.kinds.items():
        if kind not in after.kinds and old:
            removed[kind] = tuple(old)
    return Delta(changed, removed, tuple(after.kinds), after.metrics, before.metrics != after.metrics)


def apply(before: State, delta: Delta) -> State:
    """The state that ``delta`` leads to. ``before`` is left as it is."""
    kinds = delta.put_into({kind: dict(entries) for kind, entries in before.kinds.items()})
    return State(kinds, delta.metrics if delta.metrics_changed else before.metrics)


def _sum(kind: str, entries: Entries) -> int:
    seed = xxh3_64_intdigest(kind.encode())
    return sum([xxh3_128_intdigest(raw, xxh3_64_intdigest(key.encode(), seed)) for key, raw in entries.items()])


def _metrics_sum(metrics: bytes | None) -> int:
    return 0 if metrics is None else _sum(METRICS, {"": metrics})


def _hex(total: int) -> str:
    return f"{total % _MODULUS:032x}"


def digest(state: State) -> str:
    """32 hex digits over every entry. The empty state has the digest of all zeros."""
    return _hex(sum(_sum(kind, entries) for kind, entries in state.kinds.items()) + _metrics_sum(state.metrics))


def advance(before_digest: str, before: State, delta: Delta) -> str:
    """The digest after ``delta``, at the cost of the change: ``advance(digest(a), a, diff(a, b)) == digest(b)``."""
    total = int(before_digest, 16)
    for kind, entries in delta.changed.items():
        old = before.kinds.get(kind, {})
        total += _sum(kind, entries) - _sum(kind, {key: old[key] for key in entries if key in old})
    for kind, ids in delta.removed.items():
        old = before.kinds.get(kind, {})
        total -= _sum(kind, {key: old[key] for key in ids})
    if delta.metrics_changed:
        total += _metrics_sum(delta.metrics) - _metrics_sum(before.metrics)
    return _hex(total)
