"""A settled cluster is left in peace: the operator lists nothing and writes a status at most once in 30 s a policy."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.live.stage import START, Stage
from tests.cluster.live.workloads import stateful_set
from tests.lab.waiting import within

POLICIES, PODS_EACH = 10, 2
REST, PACE = 120.0, 30.0
OPERATOR = "system:serviceaccount:resonance-system:resonance-operator"


@pytest.mark.timeout(420)
def test_an_operator_at_rest_lists_nothing_and_writes_little(stage: Stage) -> None:
    names = [f"rest-{index}" for index in range(POLICIES)]
    for name in names:
        stage.protect(name, schedule={"every": "10s"})
        stage.apply(stateful_set(name, "--tick-ms=1000", replicas=PODS_EACH, app=name, nodes=10))
    for name in names:
        for index in range(PODS_EACH):
            stage.ready(f"{name}-{index}", seconds=2 * START)
    for name in names:
        stage.condition("Ready", "True", policy=name, seconds=2 * START)
    log = stage.installation.lab.audit_log
    start = log.stat().st_size
    began = time.monotonic()
    operator = [each["metadata"]["uid"] for each in stage.installation.operator_pods()]
    within(REST + 10, "two minutes to pass", lambda: time.monotonic() - began >= REST)
    asked = requests_of(log, start)
    now = [each["metadata"]["uid"] for each in stage.installation.operator_pods()]
    assert now == operator, "it is about one operator that goes on; somebody replaced it meanwhile"
    lists = [each["requestURI"] for each in asked if each["verb"] == "list"]
    assert lists == []
    writes = Counter(
        each["objectRef"]["name"]
        for each in asked
        if each["verb"] in ("patch", "update") and each["objectRef"].get("namespace") == stage.namespace
    )
    most = REST / PACE + 1
    assert all(count <= most for count in writes.values()), writes
    assert set(writes) <= set(names)
    for name in names:
        assert stage.policy(name)["status"]["summary"]["members"] == "2/2"


def requests_of(log: Path, start: int) -> list[dict[str, Any]]:
    """What the operator asked the API server, finished or streaming, since the log had `start` bytes."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [json.loads(line) for line in file.read().splitlines() if line.endswith(b"}")]
    return [each for each in lines if each["user"]["username"] == OPERATOR and each["stage"] != "RequestReceived"]
