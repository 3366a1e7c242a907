"""A namespace of a test's own, with what a user puts there: the Secret, a policy, workloads; and the questions to ask.

Every wait is a condition with a deadline. Nothing here decides what is right: it gives values, tests compare them.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar

import redis
import requests
import yaml
from tests.cluster.builders import policy
from tests.cluster.live.api import Object
from tests.cluster.live.installation import Installation, decoded, is_ready
from tests.cluster.live.network_app import App, Exported, assert_same
from tests.cluster.live.records import Member, Records, Snapshot
from tests.cluster.live.workloads import CONTAINER, bare_pod
from tests.lab.failure import LabError
from tests.lab.layout import REPOSITORY

T = TypeVar("T")
START = 60.0  # seconds in which a pod should be ready, on a machine of 2 cores that others use
CONTROLLERS = 120.0  # seconds in which the controllers act, also after the API server was away for a minute
SAVE = 20.0  # seconds in which a change should be acknowledged, with an interval of 1 s
AWAY = (OSError, HTTPException, redis.RedisError, requests.RequestException)
_PAUSE = 0.1


def eventually(what: str, seconds: float, ask: Callable[[], T | None]) -> T:
    """The first answer that is neither None, False nor an empty text.

    Who does not answer is asked again until the time is over.
    """
    began = time.monotonic()
    last: object = "no answer yet"
    while time.monotonic() - began < seconds:
        try:
            answer = ask()
        except AWAY as problem:
            answer, last = None, problem
        if answer is not None and answer is not False and answer != "":
            return answer
        time.sleep(_PAUSE)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what} (last: {last!r:.300})")


@dataclass(frozen=True)
class Life:
    """One pod of a member while a test looks at it."""

    stage: "Stage"
    pod: Object
    member: Member

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def app(self) -> App:
        return App(self.pod["status"]["podIP"])

    def acknowledged(self, ticks: int = 3) -> tuple[Exported, Snapshot]:
        """Change the state to one that no other network has, and wait until exactly that is the head."""
        self.app.set(mark=f"{self.name}-{secrets.token_hex(4)}")
        self.app.tick(ticks)
        held = self.app.export()
        return held, self.saved(held)

    def saved(self, held: Exported, seconds: float = SAVE) -> Snapshot:
        """Wait until what the app held is the head, to the last field."""

        def head() -> Snapshot | None:
            found = self.member.snapshot()
            return found if found is not None and found.tick >= held.tick else None

        found = eventually(f"tick {held.tick} of {self.member.name} in Redis", seconds, head)
        assert_same(held.state, found.state)
        return found

    def next_process(self, before: Exported, seconds: float = START) -> Exported:
        """What the next life of the process in this very pod exports first."""

        def other() -> Exported | None:
            now = self.app.export()
            return now if now.incarnation != before.incarnation else None

        return eventually(f"a new process in {self.name}", seconds, other)

    def container(self, name: str = CONTAINER) -> Object:
        """The status of one of the pod's containers as it is now."""
        now = self.stage.pod(self.name) or {}
        kinds = ("containerStatuses", "initContainerStatuses")
        found: Object = next(each for kind in kinds for each in now["status"].get(kind, []) if each["name"] == name)
        return found

    def kill(self, container: str = CONTAINER) -> None:
        """SIGKILL every process of a container."""
        self.stage.installation.lab.kill(f"{self.stage.namespace}/{self.name}/{container}")


class Stage:
    """One namespace."""

    def __init__(self, installation: Installation, name: str) -> None:
        self.installation = installation
        self.namespace = f"{name}-{secrets.token_hex(2)}"
        self.records = installation.records

    # --------------------------------------------------------------------------------------------- what a user does
    def open(self) -> None:
        """Make the namespace with the Secret in it; pods must pass Pod Security `restricted`."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.installation.lab.apply(
            [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}]
        )
        self.put_secret(self.installation.secret)
        eventually(
            "the namespace's service account",
            CONTROLLERS,
            lambda: self.installation.api.get(self.namespace, "serviceaccounts", "default"),
        )

    def close(self) -> None:
        """Delete the namespace; not waited for."""
        self.installation.lab.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")
        self.records.close()

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """kubectl in this namespace."""
        return self.installation.lab.kubectl("-n", self.namespace, *words, text=text)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def put_secret(self, content: Mapping[str, str], name: str = "resonance-redis") -> None:
        """Make or change a Secret."""
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(content)})

    def protect(self, name: str = "web", **spec: Any) -> None:
        """Apply a policy for `app: <name>` with an interval of 1 s, and wait until new pods get the agent."""
        self.apply(policy(name, **{"selector": {"matchLabels": {"app": name}}, "schedule": {"every": "1s"}, **spec}))
        self.condition("Accepted", "True", policy=name)
        self.injects(name)

    def injects(self, app: str = "web") -> None:
        """Wait until the API server gives the agent to new pods of the app."""
        text = json.dumps(bare_pod("probe", app=app))

        def injected() -> bool:
            answer = self.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=text)
            return any(
                each["name"] == "resonance-agent" for each in json.loads(answer)["spec"].get("initContainers", [])
            )

        eventually(f"pods of {app} to be injected", START, injected)

    def own_redis(self, node: str = "") -> None:
        """Install a quickstart Redis into this namespace (on that node), for a test that breaks something near it.

        It makes the Secret here.
        """
        rendered = self.installation.lab.kubectl("kustomize", str(REPOSITORY / "manifests/lab/redis"))
        objects = [each for each in yaml.safe_load_all(rendered) if each["kind"] != "Namespace"]
        for each in objects:
            each["metadata"]["namespace"] = self.namespace
            for subject in each.get("subjects", []):
                subject["namespace"] = self.namespace
            if node and each["kind"] == "StatefulSet":
                each["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        self.kubectl("delete", "secret", "resonance-redis", "--ignore-not-found")
        self.apply(*objects)
        self.redis_ready()
        secret = eventually(
            "the Secret of the Redis",
            START,
            lambda: self.installation.api.get(self.namespace, "secrets", "resonance-redis"),
        )
        self.records = Records(decoded(secret), lambda: self.redis_address)

    def redis_ready(self) -> Object:
        """Wait until this namespace's Redis is ready and give its pod."""
        return self.ready("redis-0")

    @property
    def redis_address(self) -> str:
        """Where this namespace's Redis is now."""
        pod = self.pod("redis-0")
        if pod is None or not pod["status"].get("podIP"):
            raise OSError("redis-0 has no address now")
        return str(pod["status"]["podIP"])

    # ------------------------------------------------------------------------------------------------ what there is
    def pod(self, name: str) -> Object | None:
        """One pod, None when there is none."""
        return self.installation.api.get(self.namespace, "pods", name)

    def pods(self, part: str) -> list[Object]:
        """The pods of one workload, those that end included."""
        return self.installation.api.list(self.namespace, "pods", labels={"part": part})

    def ready(self, name: str, *, but: str = "", seconds: float = START) -> Object:
        """Wait until a pod of that name, other than the one with uid `but`, is ready."""

        def found() -> Object | None:
            pod = self.pod(name)
            return pod if pod is not None and is_ready(pod) and pod["metadata"]["uid"] != but else None

        return eventually(f"pod {name} to be ready", seconds, found)

    def waiting(self, name: str, *, but: str = "") -> Object | None:
        """The pod of that name, other than the one with uid `but`, if it is in its init hook; else None."""
        pod = self.pod(name)
        if pod is None or pod["metadata"]["uid"] == but:
            return None
        states = {each["name"]: each["state"] for each in pod["status"].get("initContainerStatuses", [])}
        return pod if "running" in states.get("resonance-restore", {}) else None

    def ready_of(self, part: str, *, but: tuple[str, ...] = (), node: str = "", seconds: float = START) -> Object:
        """Wait until a pod of a workload (on that node), none of those with the uids `but`, is ready."""

        def found() -> Object | None:
            new = [each for each in self.pods(part) if is_ready(each) and each["metadata"]["uid"] not in but]
            return next((each for each in new if node in ("", each["spec"]["nodeName"])), None)

        return eventually(f"a new pod of {part} to be ready", seconds, found)

    def member(self, workload: str, member: str, policy: str = "web") -> Member:
        """The records of a member."""
        return self.records.member(self.namespace, policy, workload, member)

    def of_stateful_set(self, pod: Object, policy: str = "web") -> Life:
        """A StatefulSet's pod and its member."""
        name = str(pod["metadata"]["name"])
        return Life(self, pod, self.member(f"StatefulSet.{name.rpartition('-')[0]}", name, policy))

    def of_deployment(self, pod: Object, policy: str = "web", slot: str = "slot-0") -> Life:
        """A Deployment's pod and its member."""
        return Life(self, pod, self.member(f"Deployment.{pod['metadata']['labels']['part']}", slot, policy))

    def of_daemon_set(self, pod: Object, policy: str = "web") -> Life:
        """A DaemonSet's pod and its member."""
        name, node = str(pod["metadata"]["labels"]["part"]), str(pod["spec"]["nodeName"])
        return Life(self, pod, self.member(f"DaemonSet.{name}", node, policy))

    def policy(self, name: str = "web") -> Object:
        """The policy as it is now; empty when there is none."""
        return self.installation.api.get(self.namespace, "resonancesnapshots", name, group="resonance.dev") or {}

    def condition(self, kind: str, status: str, *, policy: str = "web", seconds: float = 45.0) -> Object:
        """Wait until a condition has a status and give it."""

        def found() -> Object | None:
            said = self.policy(policy).get("status", {}).get("conditions", [])
            return next((each for each in said if each["type"] == kind and each["status"] == status), None)

        return eventually(f"{kind}={status} of {policy}", seconds, found)

    # ---------------------------------------------------------------------------------------------- when it failed
    def diagnosis(self) -> str:
        """What a person would look at first."""
        asks: list[tuple[str, ...]] = [
            ("get", "pods,rsnap", "-o", "wide"),
            ("get", "rsnap", "-o", "yaml"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ]
        for name in self._said("get", "pods", "-o", "name").split()[:6]:
            containers = ("resonance-restore", "resonance-agent", CONTAINER)
            asks += [("logs", name, "-c", container, "--tail=15") for container in containers]
            asks.append(("logs", name, "-c", "resonance-agent", "--tail=15", "--previous"))
        asks.append(("-n", "resonance-system", "logs", "deployment/resonance-operator", "--tail=40"))
        return "\n".join(f"$ kubectl {' '.join(ask)}\n{self._said(*ask)}" for ask in asks)

    def _said(self, *words: str) -> str:
        try:
            return self.kubectl("--request-timeout=10s", *words)[-6000:]
        except (LabError, subprocess.SubprocessError) as problem:
            return f"({str(problem)[:300]})"


@contextmanager
def staged(installation: Installation, name: str) -> Iterator[Stage]:
    """A stage that is there until the block ends."""
    stage = Stage(installation, name)
    stage.open()
    try:
        yield stage
    except Exception:
        print(stage.diagnosis())
        raise
    finally:
        stage.close()
