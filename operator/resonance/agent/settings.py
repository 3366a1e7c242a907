"""What the injection told this pod's containers, parsed once (the environment; docs/contract.md has the table).

All problems are reported together, each with path, value and remedy: they come from a forged or outdated injection, so
that trying again cannot help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from resonance.model.claim import Claimant, Identity
from resonance.model.errors import InvalidInput
from resonance.model.naming import WorkloadKeys, workload_keys
from resonance.model.restore import OnUnknown
from resonance.model.schedule import DEFAULT_JITTER
from resonance.model.units import parse_duration, parse_size

T = TypeVar("T")

_LONGEST_FLUSH = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Settings:
    """One pod and the policy that it was injected for. ``member`` is None for slots, which are claimed."""

    policy: str
    workload: str
    keys: WorkloadKeys
    identity: Identity
    member: str | None
    template: str
    source: str
    every: timedelta
    jitter: timedelta
    timeout: timedelta
    max_bytes: int
    on_unknown: OnUnknown
    grace: timedelta
    cluster: str
    pod: str
    uid: str
    node: str
    directory: Path
    store_directory: Path

    @property
    def claimant(self) -> Claimant:
        """This pod, as it asks for a member."""
        return Claimant(self.uid, self.pod, self.template, self.identity, self.member)

    @property
    def flush_within(self) -> timedelta:
        """How long a preStop hook is kept waiting at most."""
        return min(_LONGEST_FLUSH, self.grace / 3)


class _Reader:
    """Takes values one by one and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[InvalidInput] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environment.get(name, "")
        if value:
            return value
        if default is None:
            self.problems.append(InvalidInput(f"environment {name}", value, "it is missing; the injection sets it."))
        return default or ""

    def parse(self, name: str, default: str | None, parser: Callable[[str, str], T], otherwise: T) -> T:
        text = self.text(name, default)
        if not text:
            return otherwise
        try:
            return parser(f"environment {name}", text)
        except InvalidInput as problem:
            self.problems.append(problem)
            return otherwise


def _identity(path: str, text: str) -> Identity:
    if text not in set(Identity):
        raise InvalidInput(path, text, f"an identity is one of {', '.join(Identity)}.")
    return Identity(text)


def _on_unknown(path: str, text: str) -> OnUnknown:
    if text not in set(OnUnknown):
        raise InvalidInput(path, text, f"what to do is one of {', '.join(OnUnknown)}.")
    return OnUnknown(text)


def _seconds(path: str, text: str) -> timedelta:
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(path, text, "a grace period is a whole number of seconds. Try '30'.")
    return timedelta(seconds=int(text))


def _url(path: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(path, text, "give http://host:port/path or https://host:port/path.")
    return text


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Parse the environment. Raises an :class:`ExceptionGroup` of :class:`InvalidInput`, one for each problem."""
    read = _Reader(environment)
    second = timedelta(seconds=1)
    pod, node = read.text("POD_NAME"), read.text("NODE_NAME", "")
    workload = read.text("RESONANCE_WORKLOAD")
    workload = f"Pod.{pod}" if workload == "Pod" else workload
    identity = read.parse("RESONANCE_IDENTITY", None, _identity, Identity.POD_NAME)
    if identity is Identity.NODE and not node:
        read.problems.append(InvalidInput("environment NODE_NAME", "", "it is missing; identity Node needs it."))
    every = read.parse("RESONANCE_EVERY", "10s", parse_duration, second)
    if not every:
        read.problems.append(InvalidInput("environment RESONANCE_EVERY", "0s", "an interval is at least 1s."))
    policy = read.text("RESONANCE_POLICY")
    keys = WorkloadKeys("")
    try:
        keys = workload_keys(read.text("RESONANCE_PREFIX", "resonance"), read.text("POD_NAMESPACE"), policy, workload)
    except InvalidInput as problem:
        read.problems.append(problem)
    settings = Settings(
        policy=policy,
        workload=workload,
        keys=keys,
        identity=identity,
        member={Identity.POD_NAME: pod, Identity.NODE: node, Identity.SLOT: None}[identity],
        template=read.text("RESONANCE_TEMPLATE", ""),
        source=read.parse("RESONANCE_SOURCE", None, _url, ""),
        every=every,
        jitter=read.parse("RESONANCE_JITTER", "", parse_duration, every * DEFAULT_JITTER),
        timeout=read.parse("RESONANCE_TIMEOUT", "5s", parse_duration, second),
        max_bytes=read.parse("RESONANCE_MAX_BYTES", "8Mi", parse_size, 0),
        on_unknown=read.parse("RESONANCE_ON_UNKNOWN", "Wait", _on_unknown, OnUnknown.WAIT),
        grace=read.parse("RESONANCE_GRACE", "30", _seconds, second),
        cluster=read.text("RESONANCE_CLUSTER", ""),
        pod=pod,
        uid=read.text("POD_UID"),
        node=node,
        directory=Path(read.text("RESONANCE_DIR", "/resonance")),
        store_directory=Path(read.text("RESONANCE_STORE_DIR", "/etc/resonance/store")),
    )
    if read.problems:
        raise ExceptionGroup("the environment of this container", read.problems)
    return settings
