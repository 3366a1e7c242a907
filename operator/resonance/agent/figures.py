"""What the agent counts, and its page for Prometheus (docs/metrics.md lists the names).

Counting costs a few numbers; the client library is imported at the first scrape, so that a pod that nobody scrapes does
not pay for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Figures:
    """Numbers of one agent. Times are ms on the steady clock, -1 means "not yet"."""

    saves: Counter[str] = field(default_factory=Counter)
    restores: Counter[str] = field(default_factory=Counter)
    flushes: Counter[str] = field(default_factory=Counter)
    fenced: int = 0
    last_duration_ms: int = -1
    durations: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_S) + 1))
    duration_sum_s: float = 0.0
    good_at_ms: int = -1
    gap_ms: int = -1
    state_bytes: int = -1
    restore_ms: int = -1
    store_up: bool = False
    quarantined: bool = False

    def took(self, duration_ms: int) -> None:
        """Count one turn's duration."""
        seconds = duration_ms / 1000
        self.last_duration_ms = duration_ms
        self.duration_sum_s += seconds
        place = next((index for index, bound in enumerate(_BUCKETS_S) if seconds <= bound), len(_BUCKETS_S))
        self.durations[place] += 1


class Page:
    """Renders the figures. ``steady`` is the clock in ms, for the age."""

    def __init__(self, figures: Figures, steady: Callable[[], int]) -> None:
        self._figures = figures
        self._steady = steady
        self._render: Callable[[], bytes] | None = None
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """The page in the Prometheus text format."""
        with self._lock:
            if self._render is None:
                from prometheus_client import CollectorRegistry, generate_latest

                registry = CollectorRegistry()
                registry.register(self)
                self._render = lambda: generate_latest(registry)
            return self._render()

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        seen = self._figures
        for name, text, counted in (
            ("resonance_snapshot_saves", "Captures by how they ended", seen.saves),
            ("resonance_restores", "Starts of this pod by how they went", seen.restores),
            ("resonance_flush", "Flushes by how they ended", seen.flushes),
        ):
            family = CounterMetricFamily(name, text, labels=["outcome"])
            for outcome, count in sorted(counted.items()):
                family.add_metric([outcome], count)
            yield family
        yield CounterMetricFamily("resonance_fenced", "Commits refused because another pod writes", seen.fenced)
        for name, text, value in self._gauges():
            yield GaugeMetricFamily(name, text, value)
        total, buckets = 0, []
        for bound, count in zip([*map(str, _BUCKETS_S), "+Inf"], seen.durations, strict=True):
            total += count
            buckets.append((bound, float(total)))
        name, text = "resonance_snapshot_duration_seconds", "How long a turn took"
        yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=seen.duration_sum_s)

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        seen = self._figures
        yield "resonance_store_up", "1 when the last call to Redis was answered", float(seen.store_up)
        yield "resonance_quarantined", "1 when the captures of this process are put aside", float(seen.quarantined)
        if seen.last_duration_ms >= 0:
            yield "resonance_snapshot_last_duration_ms", "How long the last turn took", float(seen.last_duration_ms)
        if seen.good_at_ms >= 0:
            age = max(0, self._steady() - seen.good_at_ms) / 1000
            yield "resonance_snapshot_age_seconds", "Age of the newest state that is head", age
        if seen.state_bytes >= 0:
            yield "resonance_snapshot_bytes", "Bytes of the newest state that is head", float(seen.state_bytes)
        if seen.gap_ms >= 0:
            yield "resonance_rpo_seconds", "Time between the last two good captures", seen.gap_ms / 1000
        if seen.restore_ms >= 0:
            yield "resonance_restore_duration_seconds", "How long the restore took", seen.restore_ms / 1000
