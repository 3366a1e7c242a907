"""What a user sees who wrote a wrong Secret: the reason and the remedy; pods wait, and start once it is right."""

from collections.abc import Mapping
from functools import partial

import trustme
from tests.cluster.live.stage import START, Stage, eventually
from tests.cluster.live.workloads import stateful_set

SECRET_ARRIVES = (
    90.0  # seconds in which the kubelet brings a changed Secret into a pod (10 s here), and the agent looks again
)


def wrong_secrets(right: Mapping[str, str]) -> Mapping[str, tuple[dict[str, str | None], tuple[str, ...]]]:
    """What is wrong, and the words that a user needs to see."""
    other = trustme.CA().cert_pem.bytes().decode()
    url = right["url"]
    return {
        "ca": ({"ca.crt": other}, ("certificate verify failed", "ca.crt")),
        "password": (
            {"password": "wrong"},
            ("invalid username-password pair", "check the Secret's username and password"),
        ),
        "no-password": ({"password": None}, ("password", "set a password")),
        "plain-url": ({"url": url.replace("rediss://", "redis://")}, ("url", "rediss://")),
        "host": (
            {"url": url.replace("redis.resonance-redis.svc", "redis.resonance-redis.svc.cluster.local.")},
            ("certificate verify failed", "name this host"),
        ),
    }


def test_a_wrong_secret_is_said_with_its_remedy_and_pods_start_once_it_is_right(stage: Stage) -> None:
    wrong = wrong_secrets(stage.installation.secret)
    for name, (changes, _) in wrong.items():
        content = {**stage.installation.secret, **changes}
        stage.put_secret({key: value for key, value in content.items() if value is not None}, f"secret-{name}")
        stage.protect(name, store={"secretRef": {"name": f"secret-{name}"}}, schedule={"every": "2s"})
        stage.apply(stateful_set(name, app=name))
    stage.protect("missing", store={"secretRef": {"name": "secret-missing"}}, schedule={"every": "2s"})
    stage.apply(stateful_set("missing", app="missing"))
    everything = {
        **{name: words for name, (_, words) in wrong.items()},
        "missing": ("secret-missing", "spec.store.secretRef"),
    }
    for name, words in everything.items():
        said = stage.condition("StoreReachable", "False", policy=name)
        for word in words:
            assert word in said["message"], f"{name}: {said['message']}"
        assert stage.condition("Ready", "False", policy=name)["reason"] == said["reason"]
        assert stage.installation.secret["password"] not in said["message"]
    table = stage.kubectl("get", "rsnap")
    for name in everything:
        line = next(each for each in table.splitlines() if each.split()[0] == name)
        assert stage.condition("StoreReachable", "False", policy=name)["reason"] in line, table
    waiting = {name: eventually(f"{name} to wait", START, partial(stage.waiting, f"{name}-0")) for name in everything}
    for name in everything:
        stage.put_secret(stage.installation.secret, f"secret-{name}")
    for name, waited in waiting.items():
        pod = stage.ready(f"{name}-0", seconds=SECRET_ARRIVES)
        assert pod["metadata"]["uid"] == waited["metadata"]["uid"], "the pod that waited is the one that starts"
        web = stage.of_stateful_set(pod, name)
        web.saved(web.app.export())
        stage.condition("StoreReachable", "True", policy=name, seconds=SECRET_ARRIVES)
