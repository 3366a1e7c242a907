"""A policy object is read whole or refused with every problem at once."""

from datetime import timedelta
from typing import Any

import pytest
from tests.controller.builders import policy_object

from resonance.model.claim import Identity
from resonance.model.resource import Policy, Rejected, Requirement, Selector, parse_policy
from resonance.model.restore import OnUnknown


def parsed(spec: dict[str, Any]) -> Policy:
    found = parse_policy(policy_object(spec=spec))
    assert isinstance(found, Policy), found
    return found


def problems(spec: dict[str, Any]) -> list[str]:
    found = parse_policy(policy_object(spec=spec))
    assert isinstance(found, Rejected)
    return [str(each) for each in found.problems]


def test_the_ten_lines_of_a_user_get_every_default() -> None:
    found = parsed({})
    assert (found.port, found.path, found.scheme) == (8080, "/resonance/state", "http")
    assert (found.max_bytes, found.timeout) == (8 << 20, timedelta(seconds=5))
    assert (found.every, found.rpo, found.jitter) == (timedelta(seconds=10), timedelta(seconds=20), None)
    assert (found.identity, found.on_unknown, found.prefix) == (None, OnUnknown.WAIT, "resonance")
    assert not found.suspend
    assert not found.deleting


def test_every_field_is_read_with_its_unit() -> None:
    found = parsed(
        {
            "source": {"http": {"path": "/x", "scheme": "https", "maxBytes": 4096, "timeout": "2m"}},
            "container": "net",
            "schedule": {"every": "1m", "jitter": "0s", "suspend": True},
            "restore": {"onUnknown": "Fail"},
            "identity": "Slot",
            "store": {"prefix": "p1"},
            "objectives": {"rpo": "1h"},
        }
    )
    assert (found.path, found.scheme, found.max_bytes, found.timeout) == ("/x", "https", 4096, timedelta(minutes=2))
    assert (found.container, found.every, found.jitter) == ("net", timedelta(minutes=1), timedelta(0))
    assert (found.suspend, found.on_unknown, found.identity) == (True, OnUnknown.FAIL, Identity.SLOT)
    assert (found.prefix, found.rpo) == ("p1", timedelta(hours=1))


def test_the_target_is_twice_the_interval_unless_it_is_given() -> None:
    assert parsed({"schedule": {"every": "30s"}}).rpo == timedelta(minutes=1)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"selector": {"matchLabels": None}}, "spec.selector", "name at least one label"),
    ({"selector": {"matchLabels": {"app": 5}}}, "spec.selector.matchLabels", "write labels"),
    ({"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}, "matchExpressions[0].operator", "choose"),
    ({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "matchExpressions[0].values", "list"),
    ({"selector": {"matchExpressions": [{"operator": "Exists"}]}}, "matchExpressions[0].key", "name a label"),
    ({"source": None}, "spec.source.http.port", "name the port"),
    ({"source": {"http": {"port": 0}}}, "spec.source.http.port", "name the port"),
    ({"source": {"http": {"port": True}}}, "spec.source.http.port", "name the port"),
    ({"source": {"http": {"port": 9477}}}, "spec.source.http.port", "the agent's own port"),
    ({"source": {"http": {"path": "state"}}}, "spec.source.http.path", "begins with '/'"),
    ({"source": {"http": {"path": "/a b"}}}, "spec.source.http.path", "no spaces"),
    ({"source": {"http": {"scheme": "ftp"}}}, "spec.source.http.scheme", "choose http or https"),
    ({"source": {"http": {"maxBytes": "8MB"}}}, "spec.source.http.maxBytes", "8Mi"),
    ({"source": {"http": {"maxBytes": "2Gi"}}}, "spec.source.http.maxBytes", "from 1Ki to 1Gi"),
    ({"source": {"http": {"timeout": "6m"}}}, "spec.source.http.timeout", "from 1s to 300s"),
    ({"schedule": {"every": "5 min"}}, "spec.schedule.every", "a whole number and s, m or h"),
    ({"schedule": {"every": "0s"}}, "spec.schedule.every", "from 1s"),
    ({"schedule": {"every": "25h"}}, "spec.schedule.every", "from 1s"),
    ({"schedule": {"jitter": "11s"}}, "spec.schedule.jitter", "at most one interval"),
    ({"schedule": {"suspend": "yes"}}, "spec.schedule.suspend", "true or false"),
    ({"restore": {"onUnknown": "Ignore"}}, "spec.restore.onUnknown", "choose Wait, Fail or StartEmpty"),
    ({"identity": "Pod"}, "spec.identity", "choose Auto, PodName, Slot or Node"),
    ({"store": None}, "spec.store.secretRef.name", "name the Secret"),
    ({"store": {"prefix": "a:b"}}, "spec.store.prefix", "a prefix is 1 to 63"),
    ({"objectives": {"rpo": "5s"}}, "spec.objectives.rpo", "shorter than spec.schedule.every"),
    ({"container": 3}, "spec.container", "the name of a container"),
]


@pytest.mark.parametrize(("spec", "path", "remedy"), WRONG, ids=[f"{path}-{remedy}" for _, path, remedy in WRONG])
def test_a_wrong_value_is_refused_with_its_path_and_a_remedy(spec: dict[str, Any], path: str, remedy: str) -> None:
    found = problems(spec)
    assert len(found) == 1, found
    assert path in found[0]
    assert remedy in found[0]


def test_all_problems_are_said_together() -> None:
    found = problems({"source": {"http": {"port": 0, "path": "x"}}, "schedule": {"every": "x"}, "identity": "y"})
    assert len(found) == 4


def test_a_spec_of_another_shape_is_refused_and_never_raises() -> None:
    shapes: list[Any] = [None, [], "x", {"source": 3, "selector": "y", "store": []}]
    for spec in shapes:
        raw = policy_object()
        raw["spec"] = spec
        assert isinstance(parse_policy(raw), Rejected)


def test_a_policy_being_deleted_says_so() -> None:
    found = parse_policy(policy_object(deletionTimestamp="2026-05-04T12:00:00Z"))
    assert isinstance(found, Policy)
    assert found.deleting


@pytest.mark.parametrize(
    ("operator", "values", "labels", "holds"),
    [
        ("In", ("a", "b"), {"tier": "b"}, True),
        ("In", ("a",), {}, False),
        ("NotIn", ("a",), {"tier": "a"}, False),
        ("NotIn", ("a",), {}, True),
        ("Exists", (), {"tier": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {}, True),
        ("DoesNotExist", (), {"tier": "x"}, False),
    ],
)
def test_selectors_decide_as_the_api_server_does(
    operator: str, values: tuple[str, ...], labels: dict[str, str], holds: bool
) -> None:
    selector = Selector({"app": "web"}, (Requirement("tier", operator, values),))
    assert selector.matches({"app": "web", **labels}) is holds
    assert not selector.matches(labels)


def test_selectors_that_say_the_same_are_equal_whatever_their_order() -> None:
    one = Selector({"a": "1", "b": "2"}, (Requirement("t", "In", ("x", "y")), Requirement("u", "Exists")))
    two = Selector({"b": "2", "a": "1"}, (Requirement("u", "Exists"), Requirement("t", "In", ("y", "x"))))
    assert one.canonical == two.canonical
    assert one.canonical != Selector({"a": "1"}).canonical
