"""What the API server makes of a pod: injected whole, left alone whole, or refused with what to change."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tests.cluster.builders import ACCEPTED, AGENT, Object, container, merged, owner, pod, policy, restricted
from tests.cluster.control_plane import REPOSITORY, Kubectl, Refused, wait_for

OURS = ["resonance-restore", "resonance-agent"]
Place = Callable[..., str]
_numbers = itertools.count(1)


@pytest.fixture
def place(server: Kubectl) -> Place:
    """Make a namespace with these policies, each accepted unless its status says otherwise."""

    def make(*policies: Object, status: Object | None = None, labels: Object | None = None) -> str:
        name = server.namespace(f"inject-{next(_numbers)}", labels)
        for wanted in policies or (policy(),):
            server.apply(wanted, name)
            accepted = merged({"conditions": [ACCEPTED], "agent": AGENT}, status or {})
            set_status(server, name, wanted["metadata"]["name"], accepted)
        return name

    return make


def set_status(server: Kubectl, namespace: str, name: str, status: Object) -> None:
    """Play the operator."""
    server(
        "patch",
        "rsnap",
        name,
        "-n",
        namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )


def injected(server: Kubectl, wanted: Object, namespace: str) -> Object:
    """The pod as the API server would keep it, once it knows the policies of the namespace."""
    for _ in wait_for("the pod is injected", 10):
        try:
            kept = server.dry_run(wanted, namespace)
        except Refused as refusal:
            if "carries no agent" not in str(refusal):  # one of the two admission caches is a moment behind the other
                raise
            continue
        if names(kept)[:2] == OURS:
            return kept
    raise AssertionError


def refused(server: Kubectl, wanted: Object, namespace: str, *parts: str) -> None:
    """The pod is refused, and the message has all the parts."""
    said = ""
    for _ in wait_for(f"the pod is refused with {parts}", 10):
        try:
            server.dry_run(wanted, namespace)
        except Refused as refusal:
            said = str(refusal)
            if all(part in said for part in parts):
                return
            assert "carries no agent" in said, said


def left_alone(server: Kubectl, wanted: Object, namespace: str) -> None:
    """The pod passes as it is, although a pod that is selected is injected at the same time."""
    kept = server.dry_run(wanted, namespace)
    assert not set(names(kept)) & set(OURS)
    assert not kept["metadata"].get("annotations", {}).keys() & {"resonance.dev/policy"}
    assert "resonance-state" not in [volume["name"] for volume in kept["spec"].get("volumes", [])]


def names(kept: Object) -> list[str]:
    return [each["name"] for each in kept["spec"].get("initContainers", [])]


def env(each: Object) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in each.get("env", []) if "valueFrom" not in entry}


def part(kept: Object, name: str) -> Object:
    """The container of that name."""
    found: list[Object] = [
        each for each in kept["spec"].get("initContainers", []) + kept["spec"]["containers"] if each["name"] == name
    ]
    assert len(found) == 1
    return found[0]


# ------------------------------------------------------------ who is injected, as what
HASHED = {"pod-template-hash": "7d4f"}
WHO: dict[str, tuple[Object, str, str, str]] = {
    "StatefulSet": (
        pod(owner("StatefulSet", "web"), labels={"controller-revision-hash": "web-5f"}),
        "StatefulSet.web",
        "PodName",
        "web-5f",
    ),
    "Deployment": (pod(owner("ReplicaSet", "web-7d4f"), name=None, labels=HASHED), "Deployment.web", "Slot", "7d4f"),
    "Deployment with dashes": (
        pod(owner("ReplicaSet", "a-b-7d4f"), name=None, labels=HASHED),
        "Deployment.a-b",
        "Slot",
        "7d4f",
    ),
    "bare ReplicaSet": (pod(owner("ReplicaSet", "web"), name=None), "ReplicaSet.web", "Slot", ""),
    "ReplicaSet with a foreign hash": (
        pod(owner("ReplicaSet", "web-x"), name=None, labels=HASHED),
        "ReplicaSet.web-x",
        "Slot",
        "7d4f",
    ),
    "DaemonSet": (
        pod(owner("DaemonSet", "web"), name=None, labels={"controller-revision-hash": "9c"}),
        "DaemonSet.web",
        "Node",
        "9c",
    ),
    "bare pod": (pod(), "Pod", "PodName", ""),
}


@pytest.mark.parametrize(("wanted", "workload", "identity", "template"), WHO.values(), ids=WHO.keys())
def test_a_selected_pod_is_injected_under_the_name_of_its_workload(
    server: Kubectl, place: Place, wanted: Object, workload: str, identity: str, template: str
) -> None:
    namespace = place()
    kept = injected(server, wanted, namespace)
    for name in OURS:
        said = env(part(kept, name))
        assert (said["RESONANCE_WORKLOAD"], said["RESONANCE_IDENTITY"], said["RESONANCE_TEMPLATE"]) == (
            workload,
            identity,
            template,
        )
    marks = {key: value for key, value in kept["metadata"]["annotations"].items() if key.startswith("resonance.dev/")}
    assert marks == {
        "resonance.dev/policy": "web",
        "resonance.dev/policy-generation": "1",
        "resonance.dev/workload": workload,
        "resonance.dev/identity": identity,
    }
    assert kept["metadata"]["labels"]["resonance.dev/policy"] == "web"


def test_a_named_identity_wins_and_injects_a_job_too(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(owner("Job", "once"), restartPolicy="Never"), place(policy(identity="PodName")))
    assert env(part(kept, "resonance-agent"))["RESONANCE_WORKLOAD"] == "Job.once"


def test_the_agent_is_told_everything_that_the_policy_says(server: Kubectl, place: Place) -> None:
    wanted = policy(
        source={"http": {"port": 9000, "path": "/state", "scheme": "https", "maxBytes": "1Gi", "timeout": "9s"}},
        schedule={"every": "1m", "jitter": "3s"},
        restore={"onUnknown": "Fail"},
        store={"prefix": "team", "secretRef": {"name": "my-redis"}},
    )
    namespace = place(wanted)
    kept = injected(server, pod(terminationGracePeriodSeconds=77), namespace)
    uid = server("get", "rsnap", "web", "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    for name in OURS:
        each = part(kept, name)
        assert env(each) == {
            "RESONANCE_POLICY": "web",
            "RESONANCE_POLICY_UID": uid,
            "RESONANCE_WORKLOAD": "Pod",
            "RESONANCE_IDENTITY": "PodName",
            "RESONANCE_TEMPLATE": "",
            "RESONANCE_SOURCE": "https://127.0.0.1:9000/state",
            "RESONANCE_EVERY": "1m",
            "RESONANCE_JITTER": "3s",
            "RESONANCE_TIMEOUT": "9s",
            "RESONANCE_MAX_BYTES": "1Gi",
            "RESONANCE_ON_UNKNOWN": "Fail",
            "RESONANCE_GRACE": "77",
            "RESONANCE_PREFIX": "team",
            "RESONANCE_CLUSTER": "cluster-1",
            "RESONANCE_DIR": "/resonance",
            "RESONANCE_STORE_DIR": "/etc/resonance/store",
        }
        fields = {
            entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"] for entry in each["env"] if "valueFrom" in entry
        }
        assert fields == {
            "POD_NAME": "metadata.name",
            "POD_UID": "metadata.uid",
            "POD_NAMESPACE": "metadata.namespace",
            "NODE_NAME": "spec.nodeName",
            "POD_IP": "status.podIP",
        }
    volumes = {volume["name"]: volume for volume in kept["spec"]["volumes"]}
    assert volumes["resonance-state"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "24Mi"}
    assert volumes["resonance-store"]["secret"] == {"secretName": "my-redis", "optional": True, "defaultMode": 420}


def test_our_containers_are_the_first_two_and_say_who_they_are(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(initContainers=[container("migrate")]), place())
    assert names(kept) == [*OURS, "migrate"]
    restore, agent = kept["spec"]["initContainers"][:2]
    assert (restore["args"], restore.get("restartPolicy"), restore["image"]) == (["restore"], None, "agent:1")
    assert (agent["args"], agent["restartPolicy"], agent["image"]) == (["serve"], "Always", "agent:1")
    assert agent["ports"] == [{"name": "resonance", "containerPort": 9477, "protocol": "TCP"}]
    for each in (restore, agent):
        assert each["imagePullPolicy"] == "Never"
        assert not each.keys() & {"startupProbe", "readinessProbe", "livenessProbe", "command"}
        assert each["resources"] == {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}


def test_our_containers_get_no_token_of_the_service_account(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(), place())
    where = "/var/run/secrets/kubernetes.io/serviceaccount"
    for name, expected in (
        ("web", "kube-api-access"),
        ("resonance-restore", "resonance-no-token"),
        ("resonance-agent", "resonance-no-token"),
    ):
        mounted = [mount["name"] for mount in part(kept, name)["volumeMounts"] if mount["mountPath"] == where]
        assert len(mounted) == 1
        assert mounted[0].startswith(expected)


# ------------------------------------------------------------ what the app's containers get
FILES = {"RESONANCE_RESTORE_FILE": "/resonance/restore.json", "RESONANCE_FINAL_FILE": "/resonance/final.json"}


def gets_the_files(each: Object) -> bool:
    mounts = [mount["mountPath"] for mount in each.get("volumeMounts", []) if mount["name"] == "resonance-state"]
    return mounts == ["/resonance"] and FILES.items() <= env(each).items()


def test_a_plain_container_gets_files_mount_and_hook(server: Kubectl, place: Place) -> None:
    app = part(injected(server, pod(), place()), "web")
    assert gets_the_files(app)
    assert app["lifecycle"]["preStop"] == {"httpGet": {"path": "/flush", "port": 9477, "scheme": "HTTP"}}


def test_what_a_container_has_already_stays(server: Kubectl, place: Place) -> None:
    own = container(
        env=[
            {"name": "MODE", "value": "fast"},
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
        lifecycle={"postStart": {"exec": {"command": ["true"]}}},
    )
    app = part(injected(server, pod(containers=[own], volumes=[{"name": "data", "emptyDir": {}}]), place()), "web")
    assert gets_the_files(app)
    assert [entry["name"] for entry in app["env"]] == ["MODE", "WHO", "RESONANCE_RESTORE_FILE", "RESONANCE_FINAL_FILE"]
    assert "/data" in [mount["mountPath"] for mount in app["volumeMounts"]]
    assert app["lifecycle"].keys() == {"postStart", "preStop"}


def test_an_own_prestop_hook_is_left_alone(server: Kubectl, place: Place) -> None:
    own = {"preStop": {"exec": {"command": ["sleep", "1"]}}}
    app = part(injected(server, pod(containers=[container(lifecycle=own)]), place()), "web")
    assert app["lifecycle"] == own
    assert gets_the_files(app)


def test_a_file_that_the_app_set_elsewhere_is_set_right_in_place(server: Kubectl, place: Place) -> None:
    own = [
        {"name": "RESONANCE_RESTORE_FILE", "value": "/data/restore.json"},
        {"name": "MODE", "value": "fast"},
        {"name": "RESONANCE_FINAL_FILE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    app = part(injected(server, pod(containers=[container(env=own)]), place()), "web")
    assert [entry["name"] for entry in app["env"]] == ["RESONANCE_RESTORE_FILE", "MODE", "RESONANCE_FINAL_FILE"]
    assert gets_the_files(app)


CHOSEN: dict[str, tuple[Object, Object, str]] = {
    "the one the policy names": ({"container": "b"}, {"kubectl.kubernetes.io/default-container": "c"}, "b"),
    "else the one of the annotation": ({}, {"kubectl.kubernetes.io/default-container": "c"}, "c"),
    "else the first": ({}, {}, "a"),
    "a wrong annotation counts for nothing": ({}, {"kubectl.kubernetes.io/default-container": "z"}, "a"),
}


@pytest.mark.parametrize(("spec", "annotations", "chosen"), CHOSEN.values(), ids=CHOSEN.keys())
def test_the_apps_container_is(server: Kubectl, place: Place, spec: Object, annotations: Object, chosen: str) -> None:
    wanted = pod(annotations=annotations, containers=[container("a"), container("b"), container("c")])
    kept = injected(server, wanted, place(policy(**spec)))
    assert [each["name"] for each in kept["spec"]["containers"] if gets_the_files(each)] == [chosen]
    assert [each["name"] for each in kept["spec"]["containers"] if "lifecycle" in each] == [chosen]


def test_the_apps_init_containers_get_the_files_but_other_sidecars_do_not(server: Kubectl, place: Place) -> None:
    wanted = pod(initContainers=[container("proxy", restartPolicy="Always"), container("migrate")])
    kept = injected(server, wanted, place())
    assert gets_the_files(part(kept, "migrate"))
    assert not part(kept, "proxy").get("env")
    assert "lifecycle" not in part(kept, "migrate")


# ------------------------------------------------------------ quality of service and security
EQUAL = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "0.5", "memory": "1Gi"}}


def test_a_guaranteed_pod_stays_guaranteed(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(containers=[container(resources=EQUAL)]), place())
    assert kept["status"]["qosClass"] == "Guaranteed"


def test_a_pod_with_limits_only_is_guaranteed_and_stays_so(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(containers=[container(resources={"limits": EQUAL["limits"]})]), place())
    assert kept["status"]["qosClass"] == "Guaranteed"


def test_a_burstable_pod_gets_no_cpu_limit(server: Kubectl, place: Place) -> None:
    unequal = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    kept = injected(server, pod(containers=[container(resources=unequal)]), place())
    assert kept["status"]["qosClass"] == "Burstable"
    assert part(kept, "resonance-agent")["resources"]["limits"] == {"memory": "64Mi"}


def test_a_pod_with_a_budget_of_its_own_is_not_asked_for_more(server: Kubectl, place: Place) -> None:
    budget = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}
    kept = injected(server, pod(containers=[container(resources=EQUAL)], resources=budget), place())
    assert part(kept, "resonance-agent")["resources"] == {}


def test_the_policys_own_resources_win(server: Kubectl, place: Place) -> None:
    chosen = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"cpu": 1, "memory": "128Mi"}}
    kept = injected(server, pod(), place(policy(agent={"resources": chosen})))
    for name in OURS:
        assert part(kept, name)["resources"] == {
            "requests": {"cpu": "50m", "memory": "96Mi"},
            "limits": {"cpu": "1", "memory": "128Mi"},
        }


def test_a_limit_alone_is_the_request_too(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(), place(policy(agent={"resources": {"limits": {"memory": "256Mi"}}})))
    assert part(kept, "resonance-agent")["resources"] == {
        "requests": {"cpu": "10m", "memory": "256Mi"},
        "limits": {"memory": "256Mi"},
    }


def test_an_injected_pod_passes_pod_security_restricted(server: Kubectl, place: Place) -> None:
    namespace = place(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    injected(server, pod(containers=[restricted()]), namespace)


def test_a_large_pod_among_many_policies_stays_within_what_the_api_server_computes(
    server: Kubectl, place: Place
) -> None:
    many = [{"name": f"V{index}", "value": "x" * 200} for index in range(100)]
    others = [policy(f"p{index}", selector={"matchLabels": {"app": f"p{index}"}}) for index in range(15)]
    asked = {
        "matchLabels": {"app": "web", **{f"label-{index}": "x" for index in range(15)}},
        "matchExpressions": [{"key": f"label-{index}", "operator": "In", "values": ["x"] * 16} for index in range(8)],
    }
    labels = {f"label-{index}": "x" for index in range(15)}
    wanted = pod(
        labels=labels,
        containers=[container("web", env=many), *(container(f"c{index}", env=many) for index in range(19))],
        initContainers=[container(f"i{index}", env=many) for index in range(20)],
    )
    kept = injected(server, wanted, place(policy(selector=asked), *others))
    assert all(gets_the_files(part(kept, f"i{index}")) for index in range(20))


# ------------------------------------------------------------ who is left alone
ALONE: dict[str, Object] = {
    "another label": pod(labels={"app": "other"}),
    "a Job's pod": pod(owner("Job", "once"), restartPolicy="Never"),
    "a pod of an unknown controller": pod(owner("Workflow", "flow")),
    "a pod on the host's network": pod(hostNetwork=True),
    "a pod for Windows": pod(os={"name": "windows"}),
    "a label that only begins alike": pod(labels={"app": "web-2"}),
}


@pytest.mark.parametrize("wanted", ALONE.values(), ids=ALONE.keys())
def test_left_alone(server: Kubectl, place: Place, wanted: Object) -> None:
    namespace = place()
    injected(server, pod(), namespace)
    left_alone(server, wanted, namespace)


def test_a_mirror_pod_is_left_alone(server: Kubectl, place: Place) -> None:
    namespace = place(policy(identity="PodName"))  # one that would take a pod of any owner
    node = {"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "uid", "controller": True}
    injected(server, pod(node, nodeName="node-a", automountServiceAccountToken=False), namespace)
    mark = {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "x"}
    left_alone(server, pod(node, annotations=mark, nodeName="node-a", automountServiceAccountToken=False), namespace)


def test_pods_of_kube_system_are_left_alone(server: Kubectl, place: Place) -> None:
    injected(server, pod(), place())
    server.namespace("kube-system")
    server.apply(policy(), "kube-system")
    set_status(server, "kube-system", "web", {"conditions": [ACCEPTED], "agent": AGENT})
    other = place()
    injected(server, pod(), other)  # by now the API server knows the policy made before it
    left_alone(server, pod(), "kube-system")


UNREADY: dict[str, Object] = {
    "not accepted": {"conditions": [ACCEPTED | {"status": "False", "reason": "Overlaps"}]},
    "not looked at yet": {"conditions": []},
    "without an image": {"agent": {"image": None}},
}


@pytest.mark.parametrize("status", UNREADY.values(), ids=UNREADY.keys())
def test_a_policy_injects_nothing_while_it_is(server: Kubectl, place: Place, status: Object) -> None:
    namespace = place(status=status)
    injected(server, pod(), place())
    left_alone(server, pod(), namespace)


def test_a_policy_that_is_being_deleted_injects_nothing(server: Kubectl, place: Place) -> None:
    held = policy()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    namespace = place(held)
    injected(server, pod(), namespace)
    server("delete", "rsnap", "web", "-n", namespace, "--wait=false")
    for _ in wait_for("the pod is left alone", 10):
        answer = server.start(
            "create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-", text=json.dumps(pod())
        )
        if answer.returncode == 0 and not names(json.loads(answer.stdout)):
            break
    server("patch", "rsnap", "web", "-n", namespace, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


EXPRESSIONS: dict[str, tuple[Object, Object, bool]] = {
    "In": ({"operator": "In", "values": ["a", "b"]}, {"tier": "b"}, True),
    "not In": ({"operator": "In", "values": ["a", "b"]}, {"tier": "c"}, False),
    "In, absent": ({"operator": "In", "values": ["a"]}, {}, False),
    "NotIn": ({"operator": "NotIn", "values": ["a"]}, {"tier": "c"}, True),
    "NotIn, absent": ({"operator": "NotIn", "values": ["a"]}, {}, True),
    "not NotIn": ({"operator": "NotIn", "values": ["a"]}, {"tier": "a"}, False),
    "Exists": ({"operator": "Exists"}, {"tier": ""}, True),
    "not Exists": ({"operator": "Exists"}, {}, False),
    "DoesNotExist": ({"operator": "DoesNotExist"}, {}, True),
    "not DoesNotExist": ({"operator": "DoesNotExist"}, {"tier": "x"}, False),
}


@pytest.mark.parametrize(("expression", "labels", "selected"), EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_expressions_select_as_kubernetes_does(
    server: Kubectl, place: Place, expression: Object, labels: Object, selected: bool
) -> None:
    namespace = place(
        policy(selector={"matchExpressions": [{"key": "tier", **expression}]}),
        policy("probe", selector={"matchLabels": {"app": "probe"}}),
    )
    if selected:
        injected(server, pod(labels=labels), namespace)
    else:
        injected(
            server,
            pod(
                labels={
                    "app": "probe",
                    "tier": "b" if expression["operator"] == "DoesNotExist" else labels.get("tier", "q"),
                }
            ),
            namespace,
        )
        left_alone(server, pod(labels=labels), namespace)


# ------------------------------------------------------------ who is refused
def test_two_policies_for_one_pod_are_refused(server: Kubectl, place: Place) -> None:
    namespace = place(
        policy("one"),
        policy(
            "two", selector={"matchLabels": {"app": None}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}
        ),
    )
    refused(server, pod(), namespace, "'one'", "'two'", "both select this pod", "Change one of the two selectors")


def test_a_container_that_is_not_there_is_refused_by_name(server: Kubectl, place: Place) -> None:
    namespace = place(policy(container="api"))
    refused(
        server,
        pod(containers=[container("a"), container("b")]),
        namespace,
        "container 'api'",
        "it has 'a', 'b'",
        "spec.container",
    )


CLASHES: dict[str, tuple[Object, str]] = {
    "a volume": (pod(volumes=[{"name": "resonance-state", "emptyDir": {}}]), "a volume called 'resonance-state'"),
    "the other volume": (
        pod(volumes=[{"name": "resonance-store", "emptyDir": {}}]),
        "a volume called 'resonance-store'",
    ),
    "a container": (
        pod(containers=[container(), container("resonance-agent")]),
        "a container called 'resonance-agent'",
    ),
    "a mount": (
        pod(
            containers=[container(volumeMounts=[{"name": "x", "mountPath": "/resonance"}])],
            volumes=[{"name": "x", "emptyDir": {}}],
        ),
        "a mount at /resonance in container 'web'",
    ),
}


@pytest.mark.parametrize(("wanted", "named"), CLASHES.values(), ids=CLASHES.keys())
def test_a_clash_of_names_is_refused(server: Kubectl, place: Place, wanted: Object, named: str) -> None:
    refused(server, wanted, place(), "'web' selects this pod", named, "Rename or remove it in the pod template")


def copied(kept: Object, **metadata: Any) -> Object:
    """What a person makes of `kubectl get pod -o yaml`: the same spec under another name."""
    spec = {key: value for key, value in kept["spec"].items() if key != "volumes"}
    spec["volumes"] = [volume for volume in kept["spec"]["volumes"] if not volume["name"].startswith("kube-api-access")]
    for each in spec["initContainers"] + spec["containers"]:
        each["volumeMounts"] = [
            mount for mount in each.get("volumeMounts", []) if not mount["name"].startswith("kube-api-access")
        ]
    kept_marks = {"labels": kept["metadata"]["labels"], "annotations": kept["metadata"]["annotations"], "name": "copy"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": merged(kept_marks, metadata), "spec": spec}


def test_a_copy_of_another_workloads_pod_is_refused(server: Kubectl, place: Place) -> None:
    namespace = place()
    kept = injected(server, pod(owner("StatefulSet", "web")), namespace)
    refused(
        server,
        copied(kept),
        namespace,
        "made for another pod",
        "RESONANCE_WORKLOAD is not 'Pod'",
        "Remove the init containers",
    )


def test_a_copy_without_the_labels_is_refused(server: Kubectl, place: Place) -> None:
    namespace = place()
    kept = injected(server, pod(owner("StatefulSet", "web")), namespace)
    refused(
        server,
        copied(kept, labels={"app": None}),
        namespace,
        "does not select it",
        "copy of another pod",
        "Remove the init containers",
    )


def test_an_agent_with_half_of_it_missing_is_refused(server: Kubectl, place: Place) -> None:
    namespace = place()
    half = copied(injected(server, pod(), namespace))
    half["spec"]["initContainers"] = half["spec"]["initContainers"][1:]
    refused(server, half, namespace, "only a part of the agent", "Remove the init containers")


def test_a_pod_that_claims_the_agent_of_a_policy_of_another_uid_is_refused(server: Kubectl, place: Place) -> None:
    kept = injected(server, pod(), place())
    refused(server, copied(kept), place(), "made for another pod", "RESONANCE_POLICY_UID is not")


def test_an_image_rewritten_by_a_mirror_is_no_forgery(server: Kubectl, place: Place) -> None:
    namespace = place()
    mirrored = copied(injected(server, pod(), namespace))
    for each in mirrored["spec"]["initContainers"]:
        each["image"] = "mirror.example/agent:1"
    assert names(server.dry_run(mirrored, namespace)) == OURS


def test_an_injected_pod_goes_through_again_unchanged(server: Kubectl, place: Place) -> None:
    """What the second pass of admission sees when another mutator changed the pod after us."""
    namespace = place()
    once = injected(server, pod(), namespace)
    again = server.dry_run(copied(once, name="web-0"), namespace)
    assert names(again) == OURS
    assert [each["name"] for each in again["spec"]["containers"][0]["env"]] == list(FILES)


@pytest.fixture
def other_mutators(server: Kubectl) -> Iterator[None]:
    """Two policies of somebody else, each of which puts a sidecar in front; one runs before ours, one after."""
    server("apply", "-f", "-", text=yaml.safe_dump_all(SOMEBODY))
    yield
    server("delete", "-f", "-", "--wait=true", text=yaml.safe_dump_all(SOMEBODY))


def somebody(order: str) -> list[Object]:
    """A policy and its binding whose name decides when it runs."""
    add = f"Object.spec.initContainers{{name: '{order}-proxy', image: 'proxy:1', restartPolicy: 'Always'}}"
    patch = (
        "(has(object.spec.initContainers) ? [] : [JSONPatch{op: 'add', path: '/spec/initContainers', value: []}])"
        f" + [JSONPatch{{op: 'add', path: '/spec/initContainers/0', value: {add}}}]"
    )
    once = f"!object.spec.?initContainers.orValue([]).exists(c, c.name == '{order}-proxy')"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {"resourceRules": [pods]},
        "matchConditions": [{"name": "once", "expression": once}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": f"{order}-somebody.example.com"}}
    binding = {"policyName": f"{order}-somebody.example.com"}
    return [
        {**head, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**head, "kind": "MutatingAdmissionPolicyBinding", "spec": binding},
    ]


SOMEBODY = [*somebody("a"), *somebody("z")]


def test_other_mutators_before_and_after_us_do_no_harm(server: Kubectl, place: Place, other_mutators: None) -> None:
    namespace = place()
    for _ in wait_for("all three have been at work", 10):
        answer = server.start(
            "create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-", text=json.dumps(pod())
        )
        kept = json.loads(answer.stdout) if answer.returncode == 0 else pod()
        if sorted(names(kept)) == sorted([*OURS, "a-proxy", "z-proxy"]):
            assert names(kept).index("resonance-restore") < names(kept).index("resonance-agent")
            assert gets_the_files(part(kept, "web"))
            assert not part(kept, "a-proxy").get("env")
            return


# ------------------------------------------------------------ the two files say the same
def test_injection_and_guard_judge_by_the_same_expressions() -> None:
    folder = REPOSITORY / "manifests/injection"
    inject = next(iter(yaml.safe_load_all((folder / "inject.yaml").read_text())))["spec"]
    guard = next(iter(yaml.safe_load_all((folder / "guard.yaml").read_text())))["spec"]
    guarded = {each["name"]: each["expression"] for each in guard["variables"]}
    conditions = {
        re.sub(r"-(\w)", lambda m: m[1].upper(), each["name"]): each["expression"]
        for each in inject["matchConditions"][:5]
    }
    variables = {each["name"]: each["expression"] for each in inject["variables"]}
    assert conditions.items() <= guarded.items()
    for shared in ("owners", "ownerKind", "ownerName", "hash", "workload", "identity"):
        assert guarded[shared] == variables[shared]
    assert inject["matchConstraints"] == guard["matchConstraints"]
