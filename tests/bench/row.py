"""One measured figure beside its goal, and the table that people read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` in ``unit``; ``peer`` is the same measure of the peer in the same run, ``ratio`` how many times better.

    ``goal`` reads like ``>= 60 x`` (of the ratio) or ``<= 64 KB`` (of the value); ``ok`` is None where there is no
    goal.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    peer: float | None = None
    ratio: float | None = None
    ok: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in build/bench.json."""
        return asdict(self)


def at_most(name: str, value: float, unit: str, limit: float) -> Row:
    """A row whose value has a limit."""
    return Row(name, value, unit, f"<= {limit:g} {unit}", ok=value <= limit)


def faster(name: str, value: float, unit: str, peer: float, goal: float | None) -> Row:
    """A row that must be ``goal`` times smaller than the peer's."""
    ratio = peer / value
    if goal is None:
        return Row(name, value, unit, "", peer, ratio)
    return Row(name, value, unit, f">= {goal:g} x", peer, ratio, ratio >= goal)


def table(rows: Sequence[Row]) -> str:
    """Aligned columns: name, value, peer, ratio, goal, verdict."""
    head = ("measure", "value", "peer", "ratio", "goal", "")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    peer = f"{_number(row.peer)} {row.unit}" if row.peer is not None else ""
    ratio = f"{_number(row.ratio)} x" if row.ratio is not None else ""
    verdict = {True: "ok", False: "NOT REACHED", None: ""}[row.ok]
    return (row.name, f"{_number(row.value)} {row.unit}", peer, ratio, row.goal, verdict)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
