"""A ``ResonanceSnapshot`` as a value: parsed once, units as types, every problem said at once.

The resource's own schema refuses almost everything that is refused here. It is checked again because an object may have
been written under an older schema, or with validation switched off, and because the operator must never act on a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from resonance.model.claim import Identity
from resonance.model.errors import InvalidInput
from resonance.model.naming import DEFAULT_PREFIX, workload_keys
from resonance.model.restore import OnUnknown
from resonance.model.units import parse_duration, parse_size

GROUP, VERSION, PLURAL, KIND = "resonance.dev", "v1alpha1", "resonancesnapshots", "ResonanceSnapshot"
AGENT_PORT = 9477
DEFAULT_PATH = "/resonance/state"
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of ``matchExpressions``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """As the API server decides it: ``NotIn`` also holds for a pod without the label."""
        match self.operator:
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case "In":
                return labels.get(self.key) in self.values
            case _:
                return labels.get(self.key) not in self.values


@dataclass(frozen=True, slots=True)
class Selector:
    """Which pods a policy means; never empty."""

    labels: Mapping[str, str] = field(default_factory=dict)
    expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """True if a pod with these labels is meant."""
        found = labels or {}
        exact = all(found.get(key) == value for key, value in self.labels.items())
        return exact and all(each.holds(found) for each in self.expressions)

    @property
    def canonical(self) -> tuple[object, ...]:
        """Equal for selectors that say the same."""
        expressions = {(each.key, each.operator, tuple(sorted(each.values))) for each in self.expressions}
        return tuple(sorted(self.labels.items())), tuple(sorted(expressions))


@dataclass(frozen=True, slots=True)
class Name:
    """Which policy."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What one ``ResonanceSnapshot`` asks for. ``identity`` None is Auto; ``jitter`` None is a tenth of ``every``."""

    name: Name
    uid: str
    generation: int
    created: datetime
    selector: Selector
    port: int
    secret: str
    path: str = DEFAULT_PATH
    scheme: str = "http"
    max_bytes: int = 8 << 20
    timeout: timedelta = timedelta(seconds=5)
    container: str | None = None
    every: timedelta = timedelta(seconds=10)
    jitter: timedelta | None = None
    suspend: bool = False
    on_unknown: OnUnknown = OnUnknown.WAIT
    identity: Identity | None = None
    prefix: str = DEFAULT_PREFIX
    rpo: timedelta = timedelta(seconds=20)
    deleting: bool = False

    def selects(self, namespace: str, labels: Mapping[str, str] | None) -> bool:
        """True if the policy means a pod of this namespace with these labels."""
        return namespace == self.name.namespace and self.selector.matches(labels)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that is not a policy, and every reason at once."""

    name: Name
    uid: str
    generation: int
    created: datetime
    problems: tuple[InvalidInput, ...]


def name_of(raw: Mapping[str, Any]) -> Name:
    """Which policy an object is."""
    return Name(raw["metadata"]["namespace"], raw["metadata"]["name"])


def parse_policy(raw: Mapping[str, Any]) -> Policy | Rejected:
    """Read an object of the API server. Never raises for anything inside ``spec``."""
    meta, read = raw["metadata"], _Reader(raw.get("spec"))
    created = datetime.fromisoformat(str(meta["creationTimestamp"]))
    name, uid, generation = name_of(raw), str(meta["uid"]), int(meta.get("generation", 1))
    every = read.duration("spec.schedule.every", "10s", at_most=_DAY)
    rpo = read.duration("spec.objectives.rpo", "", at_most=7 * _DAY) if read.has("spec.objectives.rpo") else 2 * every
    if rpo < every:
        read.refuse("spec.objectives.rpo", f"{rpo.total_seconds():g}s", "it is shorter than spec.schedule.every.")
    policy = Policy(
        name=name,
        uid=uid,
        generation=generation,
        created=created,
        selector=read.selector(),
        port=read.port(),
        secret=read.text("spec.store.secretRef.name", None, "name the Secret, for example resonance-redis."),
        path=read.path(),
        scheme=read.choice("spec.source.http.scheme", "http", ("http", "https")),
        max_bytes=read.size("spec.source.http.maxBytes", "8Mi"),
        timeout=read.duration("spec.source.http.timeout", "5s", at_most=timedelta(minutes=5)),
        container=read.text("spec.container", "", "give the name of a container.") or None,
        every=every,
        jitter=read.jitter(every),
        suspend=read.flag("spec.schedule.suspend"),
        on_unknown=OnUnknown(read.choice("spec.restore.onUnknown", "Wait", tuple(OnUnknown))),
        identity=read.identity(),
        prefix=read.prefix(name),
        rpo=rpo,
        deleting="deletionTimestamp" in meta,
    )
    return Rejected(name, uid, generation, created, tuple(read.problems)) if read.problems else policy


class _Reader:
    """Reads fields by path, keeps every problem, and gives a stand-in for a wrong value so that reading goes on."""

    def __init__(self, spec: object) -> None:
        self.problems: list[InvalidInput] = []
        self._root: Mapping[str, object] = {"spec": spec}

    def refuse(self, path: str, value: object, remedy: str) -> None:
        self.problems.append(InvalidInput(path, value, remedy))

    def _get(self, path: str) -> object:
        at: object = self._root
        for step in path.split("."):
            at = at.get(step) if isinstance(at, Mapping) else None
        return at

    def has(self, path: str) -> bool:
        return self._get(path) is not None

    def _try(self, parse: Callable[[], T], instead: T) -> T:
        try:
            return parse()
        except InvalidInput as problem:
            self.problems.append(problem)
            return instead

    def duration(self, path: str, default: str, *, at_most: timedelta) -> timedelta:
        value = self._get(path)
        found = self._try(lambda: parse_duration(path, default if value is None else str(value)), _SECOND)
        if not _SECOND <= found <= at_most:
            self.refuse(path, value, f"it must be from 1s to {at_most.total_seconds():g}s.")
            return _SECOND
        return found

    def jitter(self, every: timedelta) -> timedelta | None:
        path = "spec.schedule.jitter"
        if not self.has(path):
            return None
        found = self._try(lambda: parse_duration(path, str(self._get(path))), timedelta(0))
        if found > every:
            self.refuse(path, self._get(path), "a jitter is at most one interval. Leave it out for a tenth of it.")
        return found

    def size(self, path: str, default: str) -> int:
        value = self._get(path)
        found = self._try(lambda: parse_size(path, default if value is None else str(value)), 1 << 20)
        if not 1 << 10 <= found <= 1 << 30:
            self.refuse(path, value, "a size is from 1Ki to 1Gi. Try '8Mi'.")
        return found

    def text(self, path: str, default: str | None, remedy: str) -> str:
        value = self._get(path)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value:
            return value
        self.refuse(path, value, remedy)
        return "unknown"

    def choice(self, path: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self._get(path)
        if value is None:
            return default
        if isinstance(value, str) and value in allowed:
            return value
        self.refuse(path, value, f"choose {', '.join(allowed[:-1])} or {allowed[-1]}.")
        return default

    def flag(self, path: str) -> bool:
        value = self._get(path)
        if value is not None and not isinstance(value, bool):
            self.refuse(path, value, "write true or false.")
        return value is True

    def identity(self) -> Identity | None:
        chosen = self.choice("spec.identity", "Auto", ("Auto", *Identity))
        return None if chosen == "Auto" else Identity(chosen)

    def port(self) -> int:
        path = "spec.source.http.port"
        value = self._get(path)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
            self.refuse(path, value, "name the port that the app listens on, for example 8080.")
            return 1
        if value == AGENT_PORT:
            self.refuse(path, value, "it is the agent's own port: name the port that the app listens on.")
        return value

    def path(self) -> str:
        found = self.text(
            "spec.source.http.path", DEFAULT_PATH, "a path begins with '/', for example '/resonance/state'."
        )
        if not found.startswith("/") or any(each.isspace() for each in found):
            self.refuse("spec.source.http.path", found, "a path begins with '/' and has no spaces.")
        return found

    def prefix(self, name: Name) -> str:
        found = self.text("spec.store.prefix", DEFAULT_PREFIX, "give a prefix like 'resonance'.")
        try:
            workload_keys(found, name.namespace, name.name, "Pod.any")
        except InvalidInput as problem:
            self.refuse("spec.store.prefix", found, problem.remedy)
        return found

    def selector(self) -> Selector:
        labels, expressions = self._get("spec.selector.matchLabels"), self._get("spec.selector.matchExpressions")
        wrong = False
        if labels is not None and not (
            isinstance(labels, Mapping) and all(isinstance(each, str) for each in labels.values())
        ):
            self.refuse("spec.selector.matchLabels", labels, "write labels, for example {app: web}.")
            labels, wrong = None, True
        if expressions is not None and not isinstance(expressions, list):
            self.refuse("spec.selector.matchExpressions", expressions, "write a list of {key, operator, values}.")
            expressions, wrong = None, True
        parsed = [self._requirement(index, each) for index, each in enumerate(expressions or ())]
        if not labels and not parsed and not wrong:
            remedy = "an empty selector would match every pod of the namespace: name at least one label."
            self.refuse("spec.selector", self._get("spec.selector"), remedy)
        return Selector(dict(labels or {}), tuple(parsed))

    def _requirement(self, index: int, raw: object) -> Requirement:
        path = f"spec.selector.matchExpressions[{index}]"
        found: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
        key, operator, values = found.get("key"), found.get("operator"), found.get("values") or []
        if not isinstance(key, str) or not key:
            self.refuse(f"{path}.key", key, "name a label.")
        if operator not in _OPERATORS:
            self.refuse(f"{path}.operator", operator, "choose In, NotIn, Exists or DoesNotExist.")
        elif bool(values) != (operator in ("In", "NotIn")):
            self.refuse(f"{path}.values", values, "In and NotIn list values, Exists and DoesNotExist list none.")
        return Requirement(str(key), str(operator), tuple(str(each) for each in values))
