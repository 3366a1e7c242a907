"""What a pod goes on saving after another one took its member over, and a capture that proves no lineage.

Neither is ever restored by itself. Of pods that were superseded the newest states of eight are kept for a member;
``P:aside`` lists them, so that the status can say how much the old pod did after its successor was given the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from json import dumps

from resonance.model.errors import StoreBusy
from resonance.model.manifest import Manifest
from resonance.model.naming import MemberKeys
from resonance.model.record import read_part
from resonance.model.state import State
from resonance.sealing import proof_of, seal_base
from resonance.store.keyspace import Exists, Hash, HashIs, Keyspace, Write
from resonance.store.live import STAGE_TTL_S

KEPT = 8
_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class Aside:
    """One superseded pod's newest state. ``since_ms`` is when its last acknowledged snapshot was taken, -1 unknown."""

    uid: str
    pod: str
    id: str
    taken_at_ms: int
    since_ms: int

    @property
    def gap_ms(self) -> int:
        """How much of the pod's life is beside the history: the hand-over gap; -1 when it cannot be said."""
        return self.taken_at_ms - self.since_ms if self.since_ms >= 0 else -1

    def to_json(self) -> str:
        raw = asdict(self)
        del raw["uid"]
        return dumps(raw, separators=(",", ":"))


def parse_asides(raw: Mapping[bytes, bytes], *, where: str) -> tuple[Aside, ...]:
    """The hash ``P:aside``, newest first. Raises :class:`StoreDamaged`."""
    found = [
        read_part(
            text, Aside, where=where, what="a superseded pod's record", given={"uid": uid.decode(errors="replace")}
        )
        for uid, text in raw.items()
    ]
    return tuple(sorted(found, key=lambda each: each.taken_at_ms, reverse=True))


def keep_superseded(keyspace: Keyspace, keys: MemberKeys, manifest: Manifest, state: State, since_ms: int) -> None:
    """Overwrite what this pod has aside, and let the oldest of other pods go. Raises store errors; safe to repeat."""
    mine = Aside(manifest.writer, manifest.pod, manifest.id, manifest.taken_at_ms, since_ms)
    stage = _stage(keyspace, keys, manifest, state)
    for _ in range(_ATTEMPTS):
        raw = keyspace.read([Hash(keys.aside)]).hash(0)
        others = [each for each in parse_asides(raw, where=keys.aside) if each.uid != mine.uid]
        writes: list[Write] = [*_moved(stage, keys.tip(mine.uid)), ("HSET", keys.aside, mine.uid, mine.to_json())]
        for gone in others[KEPT - 1 :]:
            writes += [("UNLINK", keys.tip(gone.uid)), ("HDEL", keys.aside, gone.uid)]
        if keyspace.apply([HashIs(keys.aside, raw), Exists(stage)], writes) is not None:
            return
    raise StoreBusy(f"{keys.aside} changed {_ATTEMPTS} times. It will be tried again.")


def keep_suspect(keyspace: Keyspace, keys: MemberKeys, manifest: Manifest, state: State) -> None:
    """Overwrite the quarantine with this capture. Raises store errors; safe to repeat."""
    stage = _stage(keyspace, keys, manifest, state)
    keyspace.apply([Exists(stage)], _moved(stage, keys.quarantine))


def _stage(keyspace: Keyspace, keys: MemberKeys, manifest: Manifest, state: State) -> str:
    blob = seal_base(state)
    size = len(blob)
    whole = replace(manifest, stored_bytes=size, base_bytes=size, chain=(manifest.seq,), proof=proof_of(blob))
    whole = replace(whole, state_bytes=state.size())
    stage = keys.stage(manifest.commit, "aside")
    writes: list[Write] = [("UNLINK", stage), ("HSET", stage, "manifest", whole.to_json(), "blob", blob)]
    keyspace.stage([*writes, ("EXPIRE", stage, STAGE_TTL_S)])
    return stage


def _moved(stage: str, key: str) -> list[Write]:
    return [("UNLINK", key), ("RENAME", stage, key), ("PERSIST", key)]
