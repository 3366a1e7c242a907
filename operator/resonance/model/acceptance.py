"""Which policies of a namespace are accepted: valid ones that share no pod with an earlier accepted one.

Earlier means created earlier, then by name, so that the order never changes. Overlap is decided by the pods that really
exist, and by selectors that say the same; two selectors that merely could meet are left alone until they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from resonance.model.pod import Pod
from resonance.model.resource import Policy, Rejected


@dataclass(frozen=True, slots=True)
class Said:
    """A reason (one CamelCase word) and a message: what happened, to what, and the next step."""

    reason: str
    message: str


Refusals = Mapping[str, Said]
"""Policy uid → why it is not accepted."""


def decide_acceptance(candidates: Iterable[Policy | Rejected], pods: Sequence[Pod]) -> Refusals:
    """Judge all policies of one namespace together. A policy whose uid is not in the answer is accepted."""
    refused: dict[str, Said] = {}
    accepted: list[Policy] = []
    for each in sorted(candidates, key=lambda policy: (policy.created, policy.name.name)):
        if isinstance(each, Rejected):
            refused[each.uid] = Said("Invalid", " ".join(str(problem) for problem in each.problems))
            continue
        if each.deleting:
            refused[each.uid] = Said("Deleting", "the policy is being deleted; its snapshots stay.")
            continue
        overlap = next(filter(None, (_overlap(earlier, each, pods) for earlier in accepted)), None)
        if overlap is None:
            accepted.append(each)
        else:
            refused[each.uid] = overlap
    return refused


def _overlap(earlier: Policy, later: Policy, pods: Sequence[Pod]) -> Said | None:
    step = "change one of the two selectors"
    if earlier.selector.canonical == later.selector.canonical:
        return Said("Overlaps", f"the earlier policy {earlier.name.name} has the same selector; {step}.")
    for pod in pods:
        shared = earlier.selects(pod.namespace, pod.labels) and later.selects(pod.namespace, pod.labels)
        if shared and pod.live:
            return Said("Overlaps", f"the earlier policy {earlier.name.name} also selects pod {pod.name}; {step}.")
    return None
