"""The operator, the injection and the quickstart Redis on the lab, installed as the README tells a user to."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.cluster.live.api import Api, Object
from tests.cluster.live.records import Records
from tests.lab import Lab
from tests.lab.layout import REPOSITORY
from tests.lab.waiting import within

SYSTEM, REDIS = "resonance-system", "resonance-redis"
OPERATOR = "deployment/resonance-operator"
IMAGES = ("resonance-agent", "resonance-operator", "resonance-redis", "app-python")


class Installation:
    """What is installed, and how to read it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.api = Api(lab.kubeconfig)
        self._secret: Mapping[str, str] = {}
        self._redis_address = ""

    def install(self) -> None:
        """Install everything, in the order that the README gives. An operator of an earlier run is replaced."""
        self.lab.images(IMAGES)
        there = self.api.get(SYSTEM, "deployments", "resonance-operator", group="apps") is not None
        self._apply("lab/redis")
        self._apply("lab/operator")
        if there:
            self.lab.kubectl("-n", SYSTEM, "rollout", "restart", OPERATOR)
        self.lab.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=150s")
        self._apply("injection")
        self.lab.kubectl("-n", REDIS, "rollout", "status", "statefulset/redis", "--timeout=120s")

    def _apply(self, folder: str) -> None:
        self.lab.kubectl("apply", "-k", str(REPOSITORY / "manifests" / folder))

    @property
    def secret(self) -> Mapping[str, str]:
        """The Secret that the quickstart Redis made for its users."""
        if not self._secret:
            self._secret = decoded(self.api.get(REDIS, "secrets", "resonance-redis") or {})
        return self._secret

    @property
    def records(self) -> Records:
        """The shared Redis."""
        return Records(self.secret, lambda: self.redis_address)

    @property
    def redis_address(self) -> str:
        """Where the shared Redis is. No test moves it."""
        if not self._redis_address:
            self._redis_address = str((self.api.get(REDIS, "pods", "redis-0") or {})["status"]["podIP"])
        return self._redis_address

    def operator_pods(self) -> list[Object]:
        """The operator's pods, those that end included."""
        return self.api.list(SYSTEM, "pods", labels={"app": "resonance-operator"})

    @contextmanager
    def operator_away(self) -> Iterator[None]:
        """Without an operator until the block ends; then with one that is ready."""
        self.lab.kubectl("-n", SYSTEM, "scale", OPERATOR, "--replicas=0")
        within(60, "the operator to be gone", lambda: not self.operator_pods())
        try:
            yield
        finally:
            self.lab.kubectl("-n", SYSTEM, "scale", OPERATOR, "--replicas=1")
            self.wait_for_operator()

    @contextmanager
    def two_operators(self) -> Iterator[None]:
        """With two operators at work until the block ends."""
        self.lab.kubectl("-n", SYSTEM, "scale", OPERATOR, "--replicas=2")
        within(90, "two operators to be ready", lambda: sum(map(is_ready, self.operator_pods())) == 2)
        try:
            yield
        finally:
            self.lab.kubectl("-n", SYSTEM, "scale", OPERATOR, "--replicas=1")
            within(60, "one operator to be gone", lambda: len(self.operator_pods()) == 1)

    def wait_for_operator(self) -> None:
        """Wait until an operator is ready."""
        within(90, "the operator to be ready", lambda: any(is_ready(each) for each in self.operator_pods()))

    def close(self) -> None:
        """Close what is open."""
        self.api.close()


def decoded(secret: Object) -> dict[str, str]:
    """The keys of a Secret as text."""
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def is_ready(pod: Object) -> bool:
    """True: the pod is not ending and every container of it is ready."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
