"""A pod's workload, identity and agent are read as the injection writes them."""

from typing import Any

import pytest
from tests.controller.builders import pod_object

from resonance.model.claim import Identity
from resonance.model.pod import Injection, parse_pod


@pytest.mark.parametrize(
    ("owner", "labels", "workload", "identity"),
    [
        (("StatefulSet", "web"), {}, "StatefulSet.web", Identity.POD_NAME),
        (("ReplicaSet", "web-5d4f"), {"pod-template-hash": "5d4f"}, "Deployment.web", Identity.SLOT),
        (("ReplicaSet", "a-5d4f-5d4f"), {"pod-template-hash": "5d4f"}, "Deployment.a-5d4f", Identity.SLOT),
        (("ReplicaSet", "web-5d4f"), {}, "ReplicaSet.web-5d4f", Identity.SLOT),
        (("ReplicaSet", "5d4f"), {"pod-template-hash": "5d4f"}, "ReplicaSet.5d4f", Identity.SLOT),
        (("DaemonSet", "edge"), {}, "DaemonSet.edge", Identity.NODE),
        (None, {}, "Pod.web-0", Identity.POD_NAME),
        (("Job", "once"), {}, "Job.once", None),
        (("CloneSet", "x"), {}, "CloneSet.x", None),
    ],
)
def test_the_state_is_kept_under_the_name_of_what_makes_the_pod(
    owner: tuple[str, str] | None, labels: dict[str, str], workload: str, identity: Identity | None
) -> None:
    found = parse_pod(pod_object("web-0", owner=owner, labels={"app": "web", **labels}))
    assert found.workload == workload
    assert found.identity(None) is identity
    assert found.identity(Identity.NODE) is Identity.NODE


def test_the_template_is_the_hash_that_the_controller_gave() -> None:
    assert parse_pod(pod_object(labels={"pod-template-hash": "h1"})).template == "h1"
    assert parse_pod(pod_object(labels={"controller-revision-hash": "web-77"})).template == "web-77"
    assert parse_pod(pod_object()).template == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"injected": True}, Injection.INJECTED),
        ({}, Injection.OLDER_THAN_POLICY),
        ({"spec": {"hostNetwork": True}}, Injection.HOST_NETWORK),
        ({"annotations": {"kubernetes.io/config.mirror": "x"}}, Injection.MIRROR),
    ],
)
def test_whether_a_pod_carries_the_agent(given: dict[str, Any], expected: Injection) -> None:
    assert parse_pod(pod_object(**given)).injection is expected


def test_the_apps_container_is_the_named_one_else_the_annotated_one_else_the_first() -> None:
    two = {"containers": [{"name": "proxy"}, {"name": "app"}]}
    pod = parse_pod(pod_object(spec=two))
    annotated = parse_pod(pod_object(spec=two, annotations={"kubectl.kubernetes.io/default-container": "app"}))
    assert [each.name if (each := pod.app(name)) else None for name in (None, "app", "gone")] == ["proxy", "app", None]
    found = annotated.app(None)
    assert found is not None
    assert found.name == "app"


def test_only_a_running_container_has_an_id() -> None:
    assert parse_pod(pod_object()).started(None)
    assert not parse_pod(pod_object(running=False)).started(None)


def test_our_own_hook_is_not_the_apps() -> None:
    def prestop(hook: dict[str, Any]) -> bool:
        spec = {"containers": [{"name": "app", "lifecycle": {"preStop": hook}}]}
        return parse_pod(pod_object(spec=spec)).containers[0].own_prestop

    assert not prestop({"httpGet": {"port": 9477, "path": "/flush"}})
    assert prestop({"exec": {"command": ["sleep", "5"]}})
    assert prestop({"httpGet": {"port": 8080, "path": "/flush"}})


def test_a_pod_without_a_status_is_understood() -> None:
    raw = pod_object()
    del raw["status"], raw["spec"]["nodeName"], raw["metadata"]["labels"]
    found = parse_pod(raw)
    assert (found.phase, found.ip, found.node, found.ready) == ("Pending", "", "", False)
