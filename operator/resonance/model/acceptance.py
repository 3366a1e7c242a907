"""Which policies of a namespace are accepted: valid ones that share no pod with an earlier accepted one.

Earlier means created earlier, then by name, so that the order never changes. Overlap is decided by the pods that really
exist, by the templates of workloads (whose pods may be gone for a moment, or refused), and by selectors that say the
same; two selectors that merely could meet are left alone until they do.

What was accepted stays so while its spec stays: a new workload that two accepted policies select must not take the
injection from the pods of either, for they would start without their state. Such a pod is refused by the guard
(manifests/injection), and :func:`overlaps` says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from resonance.model.pod import Pod
from resonance.model.resource import Policy, Rejected


@dataclass(frozen=True, slots=True)
class Said:
    """A reason (one CamelCase word) and a message: what happened, to what, and the next step."""

    reason: str
    message: str


Refusals = Mapping[str, Said]
"""Policy uid → why it is not accepted."""
Templates = Mapping[str, Mapping[str, str]]
"""Workload, as in ``StatefulSet.web`` → the labels that its pods get."""


def decide_acceptance(
    candidates: Iterable[Policy | Rejected],
    pods: Sequence[Pod],
    templates: Templates = MappingProxyType({}),
    standing: frozenset[str] = frozenset(),
) -> Refusals:
    """Judge all policies of one namespace together. A policy whose uid is not in the answer is accepted.

    ``standing`` are the uids that were accepted before as they are now.
    """
    refused: dict[str, Said] = {}
    accepted: list[Policy] = []
    order = sorted(candidates, key=lambda policy: (policy.uid not in standing, policy.created, policy.name.name))
    for each in order:
        if isinstance(each, Rejected):
            refused[each.uid] = Said("Invalid", " ".join(str(problem) for problem in each.problems))
            continue
        if each.deleting:
            refused[each.uid] = Said("Deleting", "the policy is being deleted; its snapshots stay.")
            continue
        shared = next(filter(None, (_shared(earlier, each, pods, templates) for earlier in accepted)), None)
        if shared is None or each.uid in standing:
            accepted.append(each)
        else:
            refused[each.uid] = Said("Overlaps", f"the earlier policy {shared}; change one of the two selectors.")
    return refused


def overlaps(policy: Policy, others: Iterable[Policy], pods: Sequence[Pod], templates: Templates) -> Said | None:
    """What to warn of: an accepted policy that came to share pods with another accepted one; None if none does."""
    for other in others:
        shared = _shared(other, policy, pods, templates)
        if shared is not None:
            step = "new pods that both select are refused. Change one of the two selectors."
            return Said("Overlaps", f"the policy {shared}: {step}")
    return None


def _shared(earlier: Policy, later: Policy, pods: Sequence[Pod], templates: Templates) -> str | None:
    name, namespace = earlier.name.name, earlier.name.namespace
    if earlier.selector.canonical == later.selector.canonical:
        return f"{name} has the same selector"

    def both(labels: Mapping[str, str] | None) -> bool:
        return earlier.selects(namespace, labels) and later.selects(namespace, labels)

    for pod in pods:
        if pod.live and both(pod.labels):
            return f"{name} also selects pod {pod.name}"
    for workload, labels in sorted(templates.items()):
        if both(labels):
            return f"{name} also selects the pods of {workload}"
    return None
