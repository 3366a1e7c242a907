"""Reading a cluster cheaply: one kept-open connection instead of a kubectl a question, so that a test may ask often.

Only reads. What a user does (apply, delete, scale) the tests do with kubectl, as a user does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pykube

Object = dict[str, Any]
_GROUPS = {"": "v1", "apps": "apps/v1", "batch": "batch/v1", "resonance.dev": "resonance.dev/v1alpha1"}


class Api:
    """Objects as the API server has them. A server that is away raises OSError."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = pykube.HTTPClient(pykube.KubeConfig.from_file(str(kubeconfig)), timeout=10)

    def get(self, namespace: str, kind: str, name: str, *, group: str = "") -> Object | None:
        """One object, None when there is none."""
        answer = self._client.get(version=_GROUPS[group], namespace=namespace or None, url=f"{kind}/{name}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        found: Object = answer.json()
        return found

    def list(
        self, namespace: str, kind: str, *, group: str = "", labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """Objects of a kind, oldest name first."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        parameters = {"labelSelector": selector} if selector else {}
        answer = self._client.get(version=_GROUPS[group], namespace=namespace or None, url=kind, params=parameters)
        answer.raise_for_status()
        items: list[Object] = answer.json()["items"]
        return sorted(items, key=lambda each: str(each["metadata"]["name"]))

    def close(self) -> None:
        """Close the connection."""
        self._client.session.close()
