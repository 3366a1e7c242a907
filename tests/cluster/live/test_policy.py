"""What a policy's life does to pods and data: first boot, adoption, deletion and return, overlap, pods of others."""

import time

from tests.cluster.builders import policy
from tests.cluster.live.network_app import assert_goes_on, assert_same
from tests.cluster.live.stage import START, Stage
from tests.cluster.live.workloads import bare_pod, deployment, stateful_set

PROMPT = 10.0  # seconds in which a user expects kubectl to return


def containers(pod: dict[str, object]) -> set[str]:
    """The names of all containers of a pod."""
    spec = pod["spec"]
    assert isinstance(spec, dict)
    return {each["name"] for kind in ("initContainers", "containers") for each in spec.get(kind, [])}


def test_a_first_boot_with_an_empty_store_starts_at_once_and_founds_a_line(stage: Stage) -> None:
    stage.protect()
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    held = web.app.export()
    assert held.restored_from == "none"
    head = web.saved(held)
    assert (head.line, head.parent, head.epoch) == (held.incarnation, None, 1)
    stage.condition("Ready", "True")


def test_a_running_pod_is_adopted_within_one_interval_and_its_restart_restores(stage: Stage) -> None:
    stage.apply(stateful_set(), deployment())
    web = stage.of_stateful_set(stage.ready("web-0"))
    edge = stage.of_deployment(stage.ready_of("edge"))
    for life in (web, edge):
        life.app.set(mark=life.name)
        life.app.tick(7)
    every = 5.0
    began = time.monotonic()
    stage.apply(policy(schedule={"every": f"{every:.0f}s"}))
    heads = [life.saved(life.app.export(), seconds=2 * every) for life in (web, edge)]
    took = time.monotonic() - began
    assert took < every + 2.0, f"the first snapshots came {took:.1f} s after kubectl apply"
    for life in (web, edge):
        assert (stage.pod(life.name) or {})["metadata"]["uid"] == life.uid, "without a restart"
        life.app.tick(2)
    held = [life.app.export() for life in (web, edge)]
    heads = [life.saved(each, seconds=3 * every) for life, each in zip((web, edge), held, strict=True)]
    stage.injects()
    stage.kubectl("delete", "pod", web.name, edge.name, "--wait=false")
    newcomers = (
        stage.of_stateful_set(stage.ready("web-0", but=web.uid)),
        stage.of_deployment(stage.ready_of("edge", but=(edge.uid,))),
    )
    for before, head, newcomer in zip(held, heads, newcomers, strict=True):
        assert "resonance-agent" in containers(newcomer.pod)
        now = newcomer.app.export()
        assert_same(before.state, now.state)
        assert now.line == head.line
        newcomer.app.tick()
        later = newcomer.saved(newcomer.app.export(), seconds=3 * every)
        assert (later.line, later.owner) == (head.line, newcomer.uid)


def deleted(stage: Stage) -> None:
    """Delete the policy: at once, and with all its data left where it is."""
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    began = time.monotonic()
    stage.kubectl("delete", "rsnap", "web")
    assert time.monotonic() - began < PROMPT
    assert stage.policy() == {}
    found = web.member.snapshot()
    assert found is not None
    assert_same(before.state, found.state)
    assert {each["id"] for each in web.member.manifests()} >= {head.id}


def test_a_deleted_policy_keeps_the_data_and_a_new_one_goes_on_with_it(stage: Stage) -> None:
    stage.protect()
    stage.apply(stateful_set())
    deleted(stage)
    stage.protect()
    web = stage.of_stateful_set(stage.ready("web-0"))
    web.app.tick(2)
    web.saved(web.app.export(), seconds=START)
    deleted(stage)
    before = web.app.export()
    stage.kubectl("delete", "pod", "web-0", "--wait=true")
    without = stage.ready("web-0", but=web.uid)
    assert "resonance-agent" not in containers(without), "no policy, no agent"
    stage.protect()
    stage.kubectl("delete", "pod", "web-0", "--wait=false")
    again = stage.of_stateful_set(stage.ready("web-0", but=str(without["metadata"]["uid"])))
    now = again.app.export()
    assert_same(before.state, now.state)
    again.app.tick()
    assert_goes_on(before.state, again.saved(again.app.export()).state)


def test_a_policy_is_deleted_at_once_while_the_operator_is_away(stage: Stage) -> None:
    stage.protect()
    stage.apply(stateful_set())
    stage.ready("web-0")
    with stage.installation.operator_away():
        deleted(stage)
        web = stage.of_stateful_set(stage.ready("web-0"))
        before = web.app.export()
        stage.apply(policy("web", schedule={"every": "1s"}))
    stage.condition("Accepted", "True")
    stage.injects()
    stage.kubectl("delete", "pod", "web-0", "--wait=false")
    again = stage.of_stateful_set(stage.ready("web-0", but=web.uid))
    assert_same(before.state, again.app.export().state)


def test_of_two_overlapping_policies_the_later_one_is_not_accepted(stage: Stage) -> None:
    stage.protect()
    stage.apply(stateful_set())
    web = stage.of_stateful_set(stage.ready("web-0"))
    before, head = web.acknowledged()
    stage.apply(policy("second", selector={"matchLabels": {"part": "web", "app": None}}))
    said = stage.condition("Accepted", "False", policy="second")
    assert said["reason"] == "Overlaps"
    assert "policy web also selects pod web-0; change one of the two selectors" in said["message"]
    assert "Overlaps" in stage.kubectl("get", "rsnap", "second")
    stage.kubectl("delete", "pod", "web-0", "--wait=false")
    again = stage.of_stateful_set(stage.ready("web-0", but=web.uid))
    assert again.pod["metadata"]["annotations"]["resonance.dev/policy"] == "web"
    assert_same(before.state, again.app.export().state)
    again.app.tick()
    assert again.saved(again.app.export()).line == head.line
    assert stage.member("StatefulSet.web", "web-0", "second").slots() == {}, "nothing is kept for the second"


def test_pods_of_others_are_untouched(stage: Stage) -> None:
    """A Job's pod with the selected label, a pod of a controller that we do not know, and one that is not selected."""
    stage.protect()
    batch = bare_pod("batch")
    batch["spec"]["restartPolicy"] = "Never"
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "batch"},
        "spec": {"template": {"metadata": {"labels": batch["metadata"]["labels"]}, "spec": batch["spec"]}},
    }
    other = {"apiVersion": "example.com/v1", "kind": "Robot", "name": "r2", "uid": "1-2-3", "controller": True}
    stage.apply(
        job,
        bare_pod("owned", owner={**other, "blockOwnerDeletion": False}),
        stateful_set("else", app="other"),
        stateful_set(),
    )
    web = stage.of_stateful_set(stage.ready("web-0"))
    web.acknowledged()
    pods = [stage.ready_of("batch"), stage.ready("owned"), stage.ready("else-0")]
    for pod in pods:
        assert containers(pod) == {"network"}
        assert not any(key.startswith("resonance") for key in pod["metadata"].get("annotations", {}))
        assert not any("resonance" in each["name"] for each in pod["spec"].get("volumes", []))
    stage.condition("Current", "True")
    assert set(web.member.slots()) == {"web-0"}
    for kind, name in (("Job", "batch"), ("Robot", "r2"), ("StatefulSet", "else"), ("Pod", "owned")):
        member = stage.member(f"{kind}.{name}", "any")
        assert member.slots() == {}, f"nothing is kept for {kind} {name}"
