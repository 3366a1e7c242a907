"""What must hold, on what really happened (world.Ghosts) and never on what the product believes.

I1 no acknowledged snapshot disappears from history. I2 a head is replaced only by a descendant, or kept as a tip. I3 a
process that began with nothing never replaces a head without ``accept``. I4 one accepted writer per member and epoch.
I5 no state goes to another workload. I6 with the faults gone, every live pod commits again. I7 no two writers stay on
one member. I8 the newest state never sits unused while a live pod runs on an older one or on none.

I1 and I5 are about a world, I2 to I4 about one append, I6 to I8 about a world whose faults are gone (settle.py).
"""

from __future__ import annotations

from dataclasses import replace

from resonance.model.commit import Append, CommitRequest
from resonance.model.manifest import MemberRecord
from tests.protocol.world import Birth, Kube, Mode, Pod, Stage, World, ancestors, number


def of_an_append(
    world: World, place: tuple[str, str], seen: MemberRecord, request: CommitRequest, done: Append
) -> World:
    """Check one commit that was let in, before it is written, and remember who wrote."""
    births = world.ghosts.births
    store, member = place
    head = seen.head
    if head is not None:
        lines = {births[each.commit].line for each in seen.all()}
        born = births[request.commit]
        accepted = any(births[each].incarnation in world.ghosts.accepted for each in ancestors(births, request.commit))
        proven = not request.incarnation.startswith("n-")
        if proven and born.line not in lines and not accepted:
            world = world.break_(
                f"I3 {request.commit}, begun with nothing, replaced {head.commit} of {member} unaccepted"
            )
        if head.commit not in ancestors(births, request.commit) and not done.tip:
            world = world.break_(f"I2 {request.commit} replaced {head.commit} of {member} and does not descend from it")
    others = {uid for at, name, epoch, uid in world.ghosts.writers if (at, name, epoch) == (store, member, done.epoch)}
    if others - {request.writer}:
        world = world.break_(f"I4 {request.writer} and {others} both committed to {member} in epoch {done.epoch}")
    writers = world.ghosts.writers | {(store, member, done.epoch, request.writer)}
    return replace(world, ghosts=replace(world.ghosts, writers=writers))


def of_a_world(world: World) -> World:
    """Check what must hold at every moment."""
    kept: set[str] = set()
    for store in world.stores.values():
        for record in store.members.values():
            kept |= {each.commit for each in record.all()}
    missing = world.ghosts.acknowledged - kept - world.ghosts.lost_by_fail_over
    if missing:
        world = world.break_(f"I1 {', '.join(sorted(missing))} was acknowledged and is in no history")
    return world


def of_a_restore(world: World, pod: Pod, commit: str | None) -> World:
    """No pod is given the memory of another workload."""
    if commit is None:
        return world
    writers = {uid for store in world.stores.values() for record in store.members.values()
               for uid in [each.writer for each in record.all() if each.commit == commit]}  # fmt: skip
    strangers = {each.uid for each in world.pods if each.uid in writers and each.workload != pod.workload}
    return world.break_(f"I5 {pod.uid} of {pod.workload} was given the state of {strangers}") if strangers else world


def of_a_settled_world(world: World, saved: frozenset[str], *, checks_unused: bool) -> str | None:
    """``saved``: pods whose last round ended with an acknowledged commit."""
    return (
        _every_live_pod_saves(world, saved)
        or _enough_pods_commit(world, saved)
        or _the_rollout_ends(world)
        or _one_writer_stays(world, saved)
        or (_newest_state_is_used(world) if checks_unused else None)
    )


def _healthy(world: World) -> list[Pod]:
    return [each for each in world.pods if each.kube is Kube.LIVE and not each.bad_image]


def _is_rightly_suspect(world: World, pod: Pod) -> bool:
    """A process that began with nothing beside a head waits for a person. That is the promise, not a failure of it.

    So does one that loaded what such a process left in the file before the member's first snapshot.
    """
    if pod.app is None or pod.app.state is None or pod.writer.outcome != "Quarantined":
        return False
    births = world.ghosts.births
    born = births[pod.app.state]
    began = pod.app.restored_from is None or _loaded(world, pod).before_first
    return began and born.line not in {births[each.commit].line for each in pod.writer.known.all()}


def _loaded(world: World, pod: Pod) -> Birth:
    """The capture that the pod's process was started from."""
    assert pod.app is not None
    births, at = world.ghosts.births, pod.app.state
    while at is not None and births[at].incarnation == pod.app.incarnation:
        at = births[at].parent
    return births[at] if at is not None else Birth(None, "", "")


def _every_live_pod_saves(world: World, saved: frozenset[str]) -> str | None:
    for pod in _healthy(world):
        if pod.uid in saved or _is_rightly_suspect(world, pod):
            continue
        if (
            pod.stage is Stage.STARTED
            and pod.writer.mode is Mode.SUPERSEDED
            and len(_healthy(world)) > _room(world, pod)
        ):
            continue
        if pod.stage in {Stage.NEW, Stage.CLAIMED} and len(_healthy(world)) > _room(world, pod):
            continue
        return f"I6 {pod.uid} ({pod.stage}, {pod.writer.mode}, {pod.writer.outcome or 'never'}) never commits again"
    return None


def _room(world: World, pod: Pod) -> int:
    return (world.store(pod.workload).wanted or world.replicas) if pod.workload in world.stores else world.replicas


def _enough_pods_commit(world: World, saved: frozenset[str]) -> str | None:
    healthy = _healthy(world)
    suspects = [each for each in healthy if _is_rightly_suspect(world, each)]
    if len(saved) + len(suspects) < min(world.replicas, len(healthy)):
        return f"I6 of {len(healthy)} live pods only {sorted(saved)} commit, {world.replicas} are wanted"
    return None


def _the_rollout_ends(world: World) -> str | None:
    if world.paused or any(each.bad_image for each in world.pods if each.kube is Kube.LIVE):
        return None
    current = [each for each in _healthy(world) if each.template == world.template and each.stage is Stage.STARTED]
    return "I6 the roll-out does not end" if len(current) < world.replicas else None


def _one_writer_stays(world: World, saved: frozenset[str]) -> str | None:
    places = [(each.workload, each.writer.member) for each in world.pods if each.uid in saved]
    doubles = {place for place in places if places.count(place) > 1}
    return f"I7 two pods both go on committing to {doubles}" if doubles else None


def _newest_state_is_used(world: World) -> str | None:
    live = [each for each in _healthy(world) if each.stage is Stage.STARTED]
    births = world.ghosts.births
    for store in world.stores.values():
        in_use = {each.writer.member for each in live if each.writer.mode is Mode.WRITING}
        lines = [births[each.app.state].line for each in live if each.app is not None and each.app.state is not None]
        for name, record in store.members.items():
            if name in in_use or record.head is None or births[record.head.commit].line in lines:
                continue
            for pod in live:
                origin = world.ghosts.origins.get(pod.uid, 0)
                doubled = (
                    pod.app is not None and pod.app.state is not None and lines.count(births[pod.app.state].line) > 1
                )
                if not pod.initial and (
                    (origin < number(record.head.commit) and pod.uid in world.ghosts.origins) or doubled
                ):
                    ran = "nothing" if origin == 0 else f"c{origin}"
                    return f"I8 {record.head.commit} sits in unused {name} while {pod.uid} was started from {ran}"
    return None
