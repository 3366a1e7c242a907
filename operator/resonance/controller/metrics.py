"""What the operator counts (docs/metrics.md). One registry, handed down; labels are the policy's, never a pod's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from resonance.model.conditions import Is
from resonance.model.facts import Facts, measured_rpo
from resonance.model.report import Report
from resonance.model.resource import Name
from resonance.model.status import Status

_POLICY = ("namespace", "policy")


class Metrics:
    """The operator's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.saves = Counter(
            "resonance_snapshot_saves", "Captures of adopted pods, by outcome", (*_POLICY, "outcome"), registry=registry
        )
        self.last_duration = Gauge(
            "resonance_snapshot_last_duration_ms", "Last capture of an adopted pod", _POLICY, registry=registry
        )
        self.duration = Histogram(
            "resonance_snapshot_duration_seconds", "Captures of adopted pods", _POLICY, registry=registry
        )
        self.age = Gauge("resonance_snapshot_age_seconds", "Age of the oldest head", _POLICY, registry=registry)
        self.rpo = Gauge("resonance_rpo_seconds", "Recovery point of the worst member", _POLICY, registry=registry)
        self.members = Gauge("resonance_members", "Members, current and all", (*_POLICY, "state"), registry=registry)
        self.store_up = Gauge("resonance_store_up", "1 while the policy's Redis answers", _POLICY, registry=registry)
        self.quarantined = Gauge(
            "resonance_quarantined", "Members whose captures are put aside", _POLICY, registry=registry
        )
        self.condition = Gauge(
            "resonance_condition", "1 True, 0 False, -1 Unknown", (*_POLICY, "type"), registry=registry
        )
        self.status_writes = Counter("resonance_status_writes", "Writes of a status", _POLICY, registry=registry)
        self.releases = Counter(
            "resonance_releases", "Members released for pods that are gone", _POLICY, registry=registry
        )

    def captured(self, name: Name, report: Report) -> None:
        """An adopted pod was captured."""
        labels = (name.namespace, name.name)
        self.saves.labels(*labels, str(report.outcome)).inc()
        self.last_duration.labels(*labels).set(report.duration_ms)
        self.duration.labels(*labels).observe(report.duration_ms / 1000)

    def shown(self, name: Name, facts: Facts, status: Status) -> None:
        """A status was computed."""
        labels = (name.namespace, name.name)
        ages = [each.age.total_seconds() for each in facts.pods if each.age is not None]
        if ages:
            self.age.labels(*labels).set(max(ages))
        rpo = measured_rpo(facts)
        if rpo is not None:
            self.rpo.labels(*labels).set(rpo.total_seconds())
        self.store_up.labels(*labels).set(facts.store.asked and facts.store.trouble is None)
        self.quarantined.labels(*labels).set(
            sum(bool(each.report.quarantined) for each in facts.pods if each.report is not None)
        )
        for state in ("current", "total"):
            self.members.labels(*labels, state).set(status["summary"].get(state, 0))
        value = {Is.TRUE: 1, Is.FALSE: 0, Is.UNKNOWN: -1}
        for each in status["conditions"]:
            self.condition.labels(*labels, each["type"]).set(value[Is(each["status"])])

    def forget(self, name: Name) -> None:
        """The policy is gone."""
        own = (self.age, self.rpo, self.members, self.store_up, self.quarantined, self.condition, self.last_duration)
        for metric in own:
            metric.remove_by_labels({"namespace": name.namespace, "policy": name.name})
