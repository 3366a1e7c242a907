"""What the operator owes to a workload, as pure decisions: the policy record that agents read, and whose members to
release.

The order in which they are carried out is a rule: first the record without the pod, then the release, so that a pod
that was cut off and still reaches Redis cannot claim anew between the two. And nobody is released on hearsay: a
candidate is confirmed at the API server first, because a watch may be behind, and a pod that it has not told of yet may
hold a slot already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resonance.controller.observe import WorkloadSeen
from resonance.model.acceptance import Said
from resonance.model.claim import Identity
from resonance.model.pod import Pod
from resonance.model.resource import Policy
from resonance.store.workload import PolicyRecord


@dataclass(frozen=True, slots=True)
class Holding:
    """A pod that holds or has reserved a member, by the record."""

    member: str
    pod: str
    uid: str


def decide_record(
    policy: Policy, cluster: str, seen: WorkloadSeen, *, live: Iterable[str], wanted: int | None
) -> PolicyRecord:
    """The record that should stand. ``wanted`` None keeps what was known: a count that is not known yet is not zero."""
    before = seen.record.policy
    known = dict(before.known) if before is not None else {}
    for member, each in seen.members.items():
        if each.head is not None:
            known[member] = max(known.get(member, 0), each.head.seq)
    if wanted is None and before is not None:
        wanted = before.wanted
    return PolicyRecord(
        cluster=cluster,
        policy_uid=policy.uid,
        generation=policy.generation,
        every_ms=round(policy.every.total_seconds() * 1000),
        suspend=policy.suspend,
        wanted=wanted,
        live=tuple(sorted(live)),
        deleted=False,
        known=known,
    )


def other_cluster(cluster: str, seen: Mapping[str, WorkloadSeen]) -> Said | None:
    """Why this prefix is not ours: another cluster wrote there."""
    for workload, each in seen.items():
        record = each.record.policy
        if record is not None and record.cluster and cluster and record.cluster != cluster:
            text = f"the store's keys of {workload} belong to the cluster {record.cluster}, this one is {cluster}"
            step = "delete this policy and create it with another spec.store.prefix"
            return Said("OtherCluster", f"{text}; {step}.")
    return None


def holdings(seen: WorkloadSeen) -> list[Holding]:
    """Every pod that a record names."""
    out = []
    for member, record in seen.record.slots.items():
        if record.holder is not None:
            out.append(Holding(member, record.pod, record.holder))
        if record.next is not None:
            out.append(Holding(member, record.next.pod, record.next.uid))
    return out


def doubtful(seen: WorkloadSeen, pods: Mapping[str, Pod]) -> list[Holding]:
    """The pods of :func:`holdings` that may be gone: to be confirmed. ``pods`` maps uid → pod as far as is known."""
    return [each for each in holdings(seen) if each.uid not in pods or not pods[each.uid].live]


def wanted_of(identity: Identity | None, replicas: int | None) -> int | None:
    """The replicas that claims of slots count against; None for members that have a name."""
    return replicas if identity is Identity.SLOT else None
