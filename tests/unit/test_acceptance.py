"""Of policies that share a pod only the earliest is accepted."""

from datetime import timedelta

from tests.controller.builders import pod, policy, policy_object

from resonance.model.acceptance import decide_acceptance, overlaps
from resonance.model.resource import Name, Rejected, Selector, parse_policy

EARLY = policy("early")
LATER = EARLY.created + timedelta(seconds=1)
BACK = Selector({"tier": "back"})


def test_one_policy_is_accepted() -> None:
    assert decide_acceptance([EARLY], [pod()]) == {}


def test_the_same_selector_twice_is_refused_without_any_pod() -> None:
    refused = decide_acceptance([policy("later", created=LATER), EARLY], [])
    assert list(refused) == ["uid-later"]
    assert "early has the same selector; change one" in refused["uid-later"].message


def test_a_pod_that_both_select_belongs_to_the_earlier() -> None:
    later = policy("later", created=LATER, selector=BACK)
    both = pod("web-0", labels={"app": "web", "tier": "back"})
    assert decide_acceptance([EARLY, later], [pod()]) == {}
    refused = decide_acceptance([EARLY, later], [both])
    assert refused["uid-later"].reason == "Overlaps"
    assert "pod web-0" in refused["uid-later"].message


def test_a_workload_that_both_select_belongs_to_the_earlier_while_no_pod_of_it_is_there() -> None:
    later = policy("later", created=LATER, selector=BACK)
    refused = decide_acceptance([EARLY, later], [], {"StatefulSet.web": {"app": "web", "tier": "back"}})
    assert "policy early also selects the pods of StatefulSet.web" in refused["uid-later"].message


def test_what_was_accepted_stays_so_when_a_workload_comes_that_both_select() -> None:
    later = policy("later", created=LATER, selector=BACK)
    templates = {"StatefulSet.web": {"app": "web", "tier": "back"}}
    both = frozenset({"uid-early", "uid-later"})
    assert decide_acceptance([EARLY, later], [], templates, both) == {}
    said = overlaps(later, [EARLY], [], templates)
    assert said is not None
    assert "StatefulSet.web: new pods that both select are refused" in said.message
    assert overlaps(later, [EARLY], [], {"StatefulSet.web": {"app": "web"}}) is None


def test_an_older_policy_that_was_not_accepted_does_not_displace_one_that_was() -> None:
    later = policy("later", created=LATER)
    assert list(decide_acceptance([EARLY, later], [], standing=frozenset({"uid-later"}))) == ["uid-early"]


def test_a_pod_that_is_over_is_nobodys() -> None:
    later = policy("later", created=LATER, selector=BACK)
    both = pod("web-0", labels={"app": "web", "tier": "back"}, phase="Succeeded")
    assert decide_acceptance([EARLY, later], [both]) == {}


def test_policies_of_one_instant_are_ordered_by_name() -> None:
    assert list(decide_acceptance([policy("b"), policy("a")], [])) == ["uid-b"]


def test_a_refused_policy_refuses_nobody() -> None:
    middle = policy("middle", created=LATER)
    last = policy("last", created=LATER + timedelta(seconds=1), selector=BACK)
    both = pod("x", labels={"tier": "back"})
    assert list(decide_acceptance([EARLY, middle, last], [both])) == ["uid-middle"]


def test_an_invalid_policy_is_refused_with_all_its_problems_and_holds_no_pod() -> None:
    invalid = parse_policy(policy_object("bad", spec={"source": None, "identity": "x"}))
    assert isinstance(invalid, Rejected)
    refused = decide_acceptance([invalid, policy("later", created=LATER)], [])
    assert list(refused) == ["uid-bad"]
    assert refused["uid-bad"].reason == "Invalid"
    assert "spec.source.http.port" in refused["uid-bad"].message
    assert "spec.identity" in refused["uid-bad"].message


def test_a_policy_being_deleted_makes_room() -> None:
    refused = decide_acceptance([policy("old", deleting=True), policy("new", created=LATER)], [])
    assert list(refused) == ["uid-old"]


def test_names_print_as_namespace_and_name() -> None:
    assert str(Name("demo", "web")) == "demo/web"
