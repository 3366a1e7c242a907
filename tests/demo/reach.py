"""Looking and touching from outside, the same way on every cluster: the API server's own proxy, and `kubectl exec`.

Nothing is asked of the product but its resource: the apps answer for their states, Redis for its snapshots.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pykube

from resonance.model.naming import MemberKeys, WorkloadKeys, workload_keys
from tests.demo.proof import Sight, Snapshot
from tests.lab import Cluster, LabError

NAMESPACE, POLICY = "demo", "web"
SYSTEM, OPERATOR = "resonance-system", "resonance-operator"
REDIS = "resonance-redis"
APP_PORT = 8080
TIMEOUT = 15  # seconds until one request is given up
STATEFUL, EDGE = "StatefulSet.web", "Deployment.edge"
_REDIS_CLI = (
    "REDISCLI_AUTH=$(cat /run/redis/password) exec redis-cli --json --no-auth-warning --tls --cacert /run/redis/ca.crt"
    ' -h localhost --user resonance "$@"'
)

Object = Mapping[str, Any]


class UnreachableError(LabError):
    """Nobody answered this time; asking again may help."""


class Reach(AbstractContextManager["Reach"]):
    """One cluster, reached through exactly the context that the user named."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._folder = tempfile.TemporaryDirectory(prefix="resonance-demo-")
        file = Path(self._folder.name, "config")
        file.touch(mode=0o600)
        file.write_text(cluster.kubectl("config", "view", "--minify", "--raw", "--flatten", "-o", "json"))
        self._api = pykube.HTTPClient(pykube.KubeConfig.from_file(str(file)))

    def __exit__(self, *_: object) -> None:
        self._api.session.close()
        self._folder.cleanup()

    # ------------------------------------------------------------------------------------------------------ Kubernetes
    def find(self, path: str) -> Object | None:
        """One object or list by its path below the API server; None when there is none."""
        answer = self._ask("GET", path)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        self._api.raise_for_status(answer)
        found: Object = answer.json()
        return found

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        """One request. Raises UnreachableError when nobody answered."""
        try:
            return self._api.session.request(method, f"{self._api.url}/{path}", data=body, timeout=TIMEOUT)
        except OSError as error:  # what requests raises is one
            raise UnreachableError(
                f"{method} {path}: the API server does not answer ({type(error).__name__})"
            ) from error

    def pods(self, selector: str, namespace: str = NAMESPACE) -> Sequence[Object]:
        """The pods with these labels, by name."""
        found = self.find(f"api/v1/namespaces/{namespace}/pods?labelSelector={selector}") or {"items": []}
        return sorted(found["items"], key=lambda pod: str(pod["metadata"]["name"]))

    def policy(self) -> Object:
        """The policy as it stands, with its status; empty when it is not there."""
        return self.find(f"apis/resonance.dev/v1alpha1/namespaces/{NAMESPACE}/resonancesnapshots/{POLICY}") or {}

    # ------------------------------------------------------------------------------------------------------------- app
    def export(self, pod: str) -> Sight | None:
        """What the app in this pod exports now; None while it does not answer."""
        answer = self._app("GET", pod, "resonance/state")
        if answer is None or answer.status_code != HTTPStatus.OK:
            return None
        proof = (answer.headers[f"Resonance-{name}"] for name in ("Incarnation", "Restored-From"))
        return Sight(answer.json(), *proof)

    def mark(self, pod: str, marker: str) -> Sight:
        """Set the app's marker and export the state that has it."""
        answer = self._app("POST", pod, "set", json.dumps({"marker": marker}))
        sight = self.export(pod)
        if answer is None or not answer.ok or sight is None or sight.state["metrics"].get("marker") != marker:
            raise RuntimeError(f"{pod}: the app does not take the marker {marker}")
        return sight

    def die(self, pod: str) -> None:
        """Let the app's process end at once, without any last words."""
        self._app("POST", pod, "die?code=137")

    def _app(self, method: str, pod: str, path: str, body: str | None = None) -> Any:
        """The app's answer through the API server; None when nobody answered."""
        try:
            return self._ask(method, f"api/v1/namespaces/{NAMESPACE}/pods/{pod}:{APP_PORT}/proxy/{path}", body)
        except UnreachableError:
            return None

    # ----------------------------------------------------------------------------------------------------------- Redis
    def redis(self, *words: str) -> Any:
        """The answer of the quickstart Redis to one command of the agents' own user."""
        command = ("exec", "redis-0", "-c", "redis", "--", "sh", "-c", _REDIS_CLI, "redis", *words)
        return json.loads(self.cluster.kubectl("-n", REDIS, *command))

    def head(self, keys: MemberKeys) -> Snapshot | None:
        """The member's newest snapshot; None when it has none."""
        fields = self.redis("HGETALL", keys.head)
        return Snapshot.of(json.loads(fields["manifest"])) if fields else None

    def snapshot(self, keys: MemberKeys, wanted: str) -> Snapshot | None:
        """The member's kept snapshot of this id; None when there is none."""
        found = [Snapshot.of(manifest) for manifest in self.manifests(keys)]
        return next((each for each in found if each.id == wanted), None)

    def manifests(self, keys: MemberKeys) -> Sequence[Object]:
        """Every manifest that Redis has of the member, newest first, then the kept ones."""
        kept = self.redis("HGETALL", keys.kept)
        return [json.loads(text) for text in (*self.redis("LRANGE", keys.snapshots, "0", "-1"), *kept.values())]

    def has_marker(self, keys: MemberKeys, marker: str) -> bool:
        """True once the member's newest snapshot has this marker."""
        metrics = self.redis("GET", keys.metrics)
        return metrics is not None and json.loads(metrics).get("marker") == marker


def workload(name: str) -> WorkloadKeys:
    """The keys of one of the demo's workloads."""
    return workload_keys("resonance", NAMESPACE, POLICY, name)


def member_keys(name: str, member: str) -> MemberKeys:
    """The keys of one of the demo's members."""
    return workload(name).member(member)
