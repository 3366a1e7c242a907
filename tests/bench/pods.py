"""What injection costs a pod: the time that the init hook adds to its start, and the agent's memory beside it.

How the hook is timed. The API server keeps whole seconds only, and the agent's own clock starts after its interpreter
did; so neither is asked. The container runtime notes, in nanoseconds, when it created a container, when the process
began and when it ended. From *began* to *ended* is all of it: the interpreter, the connection, claim, restore, the file
written and renamed, the exit. The row without a goal counts from *created* and so has what the runtime itself needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.row import Row, at_most
from tests.cluster.live.api import Object
from tests.cluster.live.installation import Installation
from tests.cluster.live.stage import SAVE, Life, Stage, eventually, staged
from tests.cluster.live.workloads import stateful_set
from tests.lab import Lab

RUNS = 20
MEGABYTE = ("--nodes=2000", "--bytes-per-node=500", "--change-percent=1")
HOOK_SECONDS = 1.0
AGENT_MIB = 35.0
SNAPSHOTS = 20
_STATUS = "containerd/io.containerd.grpc.v1.cri/containers/{}/status"


def rows(say: Callable[[str], None]) -> Sequence[Row]:
    """All rows of this file, measured on the lab, which is left as it was found."""
    lab = Lab()
    was_up = lab.healthy()
    lab.up()
    installation = Installation(lab)
    try:
        say("installing")
        installation.install()
        with staged(installation, "bench") as stage:
            return measured(stage, say)
    finally:
        installation.close()
        if not was_up:
            lab.down()


def measured(stage: Stage, say: Callable[[str], None]) -> Sequence[Row]:
    """The rows, on a stage of their own."""
    stage.protect()
    stage.apply(
        stateful_set("mega", *MEGABYTE, "--tick-ms=1000", memory="256Mi"),
        stateful_set("small", "--nodes=100", "--tick-ms=1000"),
    )
    mega, small = (stage.of_stateful_set(stage.ready(name)) for name in ("mega-0", "small-0"))
    say(f"{SNAPSHOTS} snapshots of two pods")
    memory = [resident(life) for life in (small, mega)]
    began, created = [], []
    for run in range(RUNS):
        say(f"restore {run + 1} of {RUNS}")
        mega = replaced(stage, mega)
        times = runtime_times(stage.installation.lab, mega.pod)
        began.append((times["FinishedAt"] - times["StartedAt"]) / 1e9)
        created.append((times["FinishedAt"] - times["CreatedAt"]) / 1e9)
    return [
        at_most("init hook, 1 MB: process began to file written, p95 of 20", p95(began), "s", HOOK_SECONDS),
        Row("init hook, 1 MB: container created to ended, p95 of 20", p95(created), "s"),
        at_most("agent, resident memory, state of 100 nodes", memory[0], "MiB", AGENT_MIB),
        Row("agent, resident memory, state of 1 MB", memory[1], "MiB"),
    ]


def replaced(stage: Stage, old: Life) -> Life:
    """Delete the pod; give the next one, which was given its state."""
    stage.kubectl("delete", "pod", old.name, "--wait=false")
    new = stage.of_stateful_set(stage.ready(old.name, but=old.uid))
    if new.app.export().restored_from == "none":
        raise RuntimeError(f"{new.name} started without its state: there is nothing to measure")
    return new


def resident(life: Life) -> float:
    """The resident memory of the agent's process in MiB, after it has saved for a while."""
    first = eventually("a first snapshot", SAVE, life.member.snapshot)
    eventually(f"{SNAPSHOTS} snapshots", 4.0 * SNAPSHOTS, life.member.newer(first.seq + SNAPSHOTS))
    stage = life.stage
    pid = stage.installation.lab.pid(f"{stage.namespace}/{life.name}/resonance-agent")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def runtime_times(lab: Lab, pod: Object) -> dict[str, int]:
    """What the container runtime noted of the pod's init hook, in ns."""
    hook = next(each for each in pod["status"]["initContainerStatuses"] if each["name"] == "resonance-restore")
    identity = hook["containerID"].rpartition("/")[2]
    noted: dict[str, int] = json.loads(
        (lab.layout.state / pod["spec"]["nodeName"] / _STATUS.format(identity)).read_text()
    )
    return noted


def p95(values: Sequence[float]) -> float:
    """The value that 19 of 20 do not exceed."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]
