"""Every error that this package raises on purpose, and whether trying again can help.

    ResonanceError
    ├── InvalidInput            NEVER: the caller's value is wrong, it names path, value and remedy
    │   └── StateNotUnderstood  NEXT_CAPTURE: the app exported something that is not a state
    ├── CaptureFailed           NEXT_CAPTURE: the app could not be read this time
    │   ├── SourceNotReady      NEXT_CAPTURE: the app answered 503, it asks to be left alone
    │   └── StateTooLarge       NEXT_CAPTURE: larger than maxBytes; nothing was stored
    └── StoreError
        ├── StoreUnreachable    SOON: no answer; the write may or may not have been applied
        ├── StoreBusy           SOON: Redis answered that it can't now (LOADING, OOM, READONLY, NOREPLICAS)
        ├── StoreRefused        AFTER_CHANGE: TLS, AUTH, ACL or address is wrong; names the remedy
        └── StoreDamaged        NEVER: a record or blob does not verify; says which key

The argument: a caller never looks at a message to decide what to do next. It reads ``retry``.
"""

from __future__ import annotations

from enum import StrEnum


class Retry(StrEnum):
    """When the same call can succeed."""

    NEVER = "never"
    SOON = "soon"
    NEXT_CAPTURE = "next-capture"
    AFTER_CHANGE = "after-change"


class ResonanceError(Exception):
    """The root of the tree above."""

    retry = Retry.NEVER


class InvalidInput(ResonanceError):
    """A value that a person or program gave is not allowed.

    The text reads ``path: 'value' is not allowed: remedy`` so that it can be shown as it is.
    """

    def __init__(self, path: str, value: object, remedy: str) -> None:
        self.path = path
        self.value = value
        self.remedy = remedy
        super().__init__(f"{path}: {value!r} is not allowed: {remedy}")


class StateNotUnderstood(InvalidInput):
    """The export is not a state. The text names the place and never contains state bytes."""

    retry = Retry.NEXT_CAPTURE

    def __init__(self, path: str, remedy: str) -> None:
        super().__init__(path, "…", remedy)
        self.args = (f"{path}: {remedy}",)


class CaptureFailed(ResonanceError):
    """The state could not be read from the process this time."""

    retry = Retry.NEXT_CAPTURE


class SourceNotReady(CaptureFailed):
    """The app answered 503: it does not want to be captured now."""


class StateTooLarge(CaptureFailed):
    """The export is larger than ``maxBytes``; reading stopped there."""


class StoreError(ResonanceError):
    """Something about Redis."""

    retry = Retry.SOON


class StoreUnreachable(StoreError):
    """No answer from Redis. A write may have been applied: retry with the same commit id."""


class StoreBusy(StoreError):
    """Redis answered that it cannot serve this now."""


class StoreRefused(StoreError):
    """Redis or TLS refused us. Trying again helps only after somebody changed something."""

    retry = Retry.AFTER_CHANGE


class StoreDamaged(StoreError):
    """A stored record or blob does not verify."""

    retry = Retry.NEVER
