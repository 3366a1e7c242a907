"""A wrong policy is refused when it is applied, with path, value and remedy; a right one needs ten lines."""

import json
from typing import Any

import pytest
from tests.cluster.builders import Object, merged, policy
from tests.cluster.control_plane import REPOSITORY, Kubectl, Refused

# what is wrong: the spec laid over a right one, and what the message must name: path, value, remedy
WRONG: dict[str, tuple[Object, tuple[str, ...]]] = {
    "no selector": ({"selector": None}, ("spec.selector", "Required value", "matchLabels: {app: web}")),
    "empty selector": (
        {"selector": {"matchLabels": None}},
        ("spec.selector", "every pod of the namespace", "matchLabels: {app: web}"),
    ),
    "empty labels": (
        {"selector": {"matchLabels": {"app": None}}},
        ("spec.selector", "every pod", "name at least one label"),
    ),
    "label key with a space": (
        {"selector": {"matchLabels": {"my app": "x"}}},
        ("spec.selector.matchLabels", "'my app'", "'example.com/app'"),
    ),
    "label value with a space": (
        {"selector": {"matchLabels": {"app": "a b"}}},
        ("spec.selector.matchLabels", "'a b'", "at most 63 letters"),
    ),
    "unknown label operator": (
        {"selector": {"matchExpressions": [{"key": "app", "operator": "Is", "values": ["x"]}]}},
        ("spec.selector.matchExpressions[0].operator", '"Is"', '"In", "NotIn", "Exists", "DoesNotExist"'),
    ),
    "In without values": (
        {"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}},
        ("spec.selector.matchExpressions[0].values", "operator In", "list at least one"),
    ),
    "Exists with values": (
        {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["x"]}]}},
        ("spec.selector.matchExpressions[0].values", "operator Exists", "remove values"),
    ),
    "expression key with a space": (
        {"selector": {"matchExpressions": [{"key": "my app", "operator": "Exists"}]}},
        ("spec.selector.matchExpressions[0].key", "'my app'", "'example.com/app'"),
    ),
    "no source": ({"source": None}, ("spec.source", "Required value", "source: {http: {port: 8080}}")),
    "no http": ({"source": {"http": None}}, ("spec.source.http", "Required value", "http: {port: 8080}")),
    "no port": ({"source": {"http": {"port": None}}}, ("spec.source.http.port", "Required value", "port: 8080")),
    "port 0": ({"source": {"http": {"port": 0}}}, ("spec.source.http.port", "0", "greater than or equal to 1")),
    "port 70000": (
        {"source": {"http": {"port": 70000}}},
        ("spec.source.http.port", "70000", "less than or equal to 65535"),
    ),
    "port by name": (
        {"source": {"http": {"port": "http"}}},
        ("spec.source.http.port", '"string"', "must be of type integer"),
    ),
    "the agent's port": (
        {"source": {"http": {"port": 9477}}},
        ("spec.source.http.port", "9477", "name the port that the app listens on"),
    ),
    "path without a slash": (
        {"source": {"http": {"path": "state"}}},
        ("spec.source.http.path", "'state'", "begins with '/'"),
    ),
    "path with a space": (
        {"source": {"http": {"path": "/my state"}}},
        ("spec.source.http.path", "'/my state'", "no spaces"),
    ),
    "scheme in capitals": (
        {"source": {"http": {"scheme": "HTTPS"}}},
        ("spec.source.http.scheme", '"HTTPS"', '"http", "https"'),
    ),
    "2 GiB": ({"source": {"http": {"maxBytes": "2Gi"}}}, ("spec.source.http.maxBytes", "'2Gi'", "from 1Ki to 1Gi")),
    "a size that is none": (
        {"source": {"http": {"maxBytes": "8 MB"}}},
        ("spec.source.http.maxBytes", "'8 MB'", "Try '8Mi'"),
    ),
    "10 bytes": ({"source": {"http": {"maxBytes": 10}}}, ("spec.source.http.maxBytes", "'10'", "from 1Ki to 1Gi")),
    "timeout 0": ({"source": {"http": {"timeout": "0s"}}}, ("spec.source.http.timeout", "'0s'", "Try '5s'")),
    "timeout 1 hour": ({"source": {"http": {"timeout": "1h"}}}, ("spec.source.http.timeout", "'1h'", "from 1s to 5m")),
    "container with a capital": (
        {"container": "Web"},
        ("spec.container", "'Web'", "write the name from the pod template"),
    ),
    "no unit": ({"schedule": {"every": "10"}}, ("spec.schedule.every", "'10'", "Try '10s' or '5m'")),
    "a sentence": (
        {"schedule": {"every": "5 min"}},
        ("spec.schedule.every", "'5 min'", "a whole number and s, m or h"),
    ),
    "a fraction": ({"schedule": {"every": "1.5m"}}, ("spec.schedule.every", "'1.5m'", "a whole number")),
    "milliseconds": ({"schedule": {"every": "500ms"}}, ("spec.schedule.every", "'500ms'", "from 1s to 24h")),
    "never": ({"schedule": {"every": "0s"}}, ("spec.schedule.every", "'0s'", "from 1s to 24h")),
    "25 hours": ({"schedule": {"every": "25h"}}, ("spec.schedule.every", "'25h'", "from 1s to 24h")),
    "a number": ({"schedule": {"every": 10}}, ("spec.schedule.every", '"integer"', "must be of type string")),
    "jitter without a unit": ({"schedule": {"jitter": "1"}}, ("spec.schedule.jitter", "'1'", "for example '1s'")),
    "jitter over the interval": (
        {"schedule": {"jitter": "11s"}},
        ("spec.schedule.jitter", "'11s'", "at most one interval"),
    ),
    "suspend in words": (
        {"schedule": {"suspend": "yes"}},
        ("spec.schedule.suspend", '"string"', "must be of type boolean"),
    ),
    "another answer": (
        {"restore": {"onUnknown": "Ignore"}},
        ("spec.restore.onUnknown", '"Ignore"', '"Wait", "Fail", "StartEmpty"'),
    ),
    "another identity": ({"identity": "Pod"}, ("spec.identity", '"Pod"', '"Auto", "PodName", "Slot", "Node"')),
    "no store": ({"store": None}, ("spec.store", "Required value", "secretRef: {name: resonance-redis}")),
    "no Secret": (
        {"store": {"secretRef": None}},
        ("spec.store.secretRef", "Required value", "secretRef: {name: resonance-redis}"),
    ),
    "unnamed Secret": (
        {"store": {"secretRef": {"name": None}}},
        ("spec.store.secretRef.name", "Required value", "name: resonance-redis"),
    ),
    "Secret in capitals": (
        {"store": {"secretRef": {"name": "Redis"}}},
        ("spec.store.secretRef.name", "'Redis'", "lower-case"),
    ),
    "prefix with a brace": ({"store": {"prefix": "a{b}"}}, ("spec.store.prefix", "'a{b}'", "Try 'resonance'")),
    "empty prefix": ({"store": {"prefix": ""}}, ("spec.store.prefix", "''", "Try 'resonance'")),
    "target under the interval": (
        {"objectives": {"rpo": "5s"}},
        ("spec.objectives.rpo", "'5s'", "spec.schedule.every '10s'", "Shorten the interval"),
    ),
    "target without a unit": ({"objectives": {"rpo": "20"}}, ("spec.objectives.rpo", "'20'", "Try '20s'")),
    "memory that is none": (
        {"agent": {"resources": {"requests": {"memory": "lots"}}}},
        ("spec.agent.resources.requests.memory", "'lots'", "try '64Mi'"),
    ),
    "no memory": (
        {"agent": {"resources": {"limits": {"memory": "16Mi"}}}},
        ("spec.agent.resources.limits.memory", "'16Mi'", "at least '48Mi'"),
    ),
    "cpu that is none": (
        {"agent": {"resources": {"limits": {"cpu": "fast"}}}},
        ("spec.agent.resources.limits.cpu", "'fast'", "try '500m'"),
    ),
    "request over limit": (
        {"agent": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}},
        ("spec.agent.resources.requests.cpu", "'2'", "'1'", "lower the request or raise the limit"),
    ),
    "a misspelt field": ({"schedule": {"evry": "10s"}}, ("unknown field", "spec.schedule.evry")),
    "a field of a later version": ({"retention": {"recent": 60}}, ("unknown field", "spec.retention")),
}

RIGHT: dict[str, Object] = {
    "everything said": {
        "selector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}]},
        "source": {"http": {"path": "/v1/state?full=1", "scheme": "https", "maxBytes": "1Gi", "timeout": "5m"}},
        "container": "web",
        "schedule": {"every": "24h", "jitter": "0s", "suspend": True},
        "restore": {"onUnknown": "StartEmpty"},
        "identity": "Slot",
        "store": {"prefix": "team.a_1"},
        "objectives": {"rpo": "48h"},
        "agent": {"resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}},
    },
    "the shortest interval": {"schedule": {"every": "1s", "jitter": "1s"}},
    "a size in bytes": {"source": {"http": {"maxBytes": 8388608}}},
    "a target of one interval": {"objectives": {"rpo": "10s"}},
}


@pytest.fixture(scope="module")
def namespace(server: Kubectl) -> str:
    return server.namespace("crd")


@pytest.mark.parametrize(("spec", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_policy_is_refused_with_path_value_and_remedy(
    server: Kubectl, namespace: str, spec: Object, named: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as refusal:
        server.dry_run(policy(**spec), namespace)
    for part in named:
        assert part in str(refusal.value)


@pytest.mark.parametrize("spec", RIGHT.values(), ids=RIGHT.keys())
def test_a_right_policy_is_kept_as_it_is_written(server: Kubectl, namespace: str, spec: Object) -> None:
    kept = server.dry_run(policy(**spec), namespace)
    assert merged(kept["spec"], policy(**spec)["spec"]) == kept["spec"]


def test_the_ten_lines_get_their_defaults(server: Kubectl, namespace: str) -> None:
    words = (
        "create",
        "--dry-run=server",
        "-n",
        namespace,
        "-o",
        "jsonpath={.spec}",
        "-f",
        str(REPOSITORY / "manifests/sample/policy.yaml"),
    )
    assert server(*words)
    assert server.dry_run(policy(), namespace)["spec"] == {
        "selector": {"matchLabels": {"app": "web"}},
        "source": {
            "http": {"port": 8080, "path": "/resonance/state", "scheme": "http", "maxBytes": "8Mi", "timeout": "5s"}
        },
        "schedule": {"every": "10s", "suspend": False},
        "restore": {"onUnknown": "Wait"},
        "identity": "Auto",
        "store": {"secretRef": {"name": "resonance-redis"}, "prefix": "resonance"},
    }


def test_a_name_too_long_for_a_label_is_refused(server: Kubectl, namespace: str) -> None:
    with pytest.raises(Refused, match=r"metadata.name: 'aaaa.*at most 63 characters"):
        server.dry_run(policy("a" * 64), namespace)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"identity": "Slot"}, ("spec.identity", "'Slot' differs from the present 'Auto'", "create it anew")),
        (
            {"store": {"prefix": "other"}},
            ("spec.store.prefix", "'other' differs from the present 'resonance'", "create it anew"),
        ),
    ],
    ids=["identity", "prefix"],
)
def test_a_change_that_would_leave_the_snapshots_behind_is_refused(
    server: Kubectl, namespace: str, change: Object, named: tuple[str, ...]
) -> None:
    server.apply(policy("kept"), namespace)
    with pytest.raises(Refused) as refusal:
        server.apply(policy("kept", **change), namespace)
    for part in named:
        assert part in str(refusal.value)


def test_everything_else_may_change(server: Kubectl, namespace: str) -> None:
    server.apply(policy("moving"), namespace)
    changed: dict[str, Any] = {
        "schedule": {"every": "1m"},
        "store": {"secretRef": {"name": "other"}},
        "source": {"http": {"port": 9090}},
    }
    assert server.apply(policy("moving", **changed), namespace)["spec"]["schedule"]["every"] == "1m"


def test_kubectl_get_shows_the_columns(server: Kubectl, namespace: str) -> None:
    server.apply(policy("shown"), namespace)
    status = {
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "R",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
        "summary": {"members": "2/3", "rpo": "8.2s", "target": "20s", "reason": "StoreUnreachable", "restored": "3/3"},
        "lastSnapshotTime": "2026-01-01T00:00:00Z",
        "store": "redis.prod.svc:6380",
        "members": [
            {"workload": "Deployment.a", "member": "slot-0"},
            {"workload": "Deployment.b", "member": "slot-0", "seq": 7},
        ],
    }
    patch = server.start(
        "patch",
        "rsnap",
        "shown",
        "-n",
        namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )
    assert patch.returncode == 0, patch.stderr
    head, row = (line.split() for line in server("get", "rsnap", "shown", "-n", namespace).splitlines())
    assert head == ["NAME", "READY", "MEMBERS", "LAST", "RPO", "TARGET", "REASON", "AGE"]
    assert row[:3] == ["shown", "False", "2/3"]
    assert row[3].endswith("d")
    assert row[4:7] == ["8.2s", "20s", "StoreUnreachable"]
    head, row = (line.split() for line in server("get", "rsnap", "shown", "-n", namespace, "-o", "wide").splitlines())
    assert head[8:] == ["EVERY", "STORE", "RESTORED", "SUSPENDED"]
    assert row[8:] == ["10s", "redis.prod.svc:6380", "3/3", "false"]
