"""`python -m tests.demo`: play the story, show the proofs.

Exit codes: 0 every proof holds, 1 one does not or a step failed, 130 interrupted. The cluster stays up, with everything
in it, so that one can look around.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from tests.demo.proof import Proof
from tests.demo.reach import NAMESPACE, OPERATOR, POLICY, REDIS, SYSTEM, Reach
from tests.demo.stage import IMAGES, Stage, prepare
from tests.demo.story import STORY, Step
from tests.demo.terminal import NotInTimeError, Screen
from tests.lab import Cluster, Lab, LabError, open_cluster

Row = tuple[str, Proof]
SETTING = (
    ("-n", SYSTEM, "get", "pods"),
    ("-n", SYSTEM, "logs", f"deployment/{OPERATOR}", "--tail=12"),
    ("-n", REDIS, "get", "pods"),
)
SCENE = (("-n", NAMESPACE, "get", "pods", "-o", "wide"), ("-n", NAMESPACE, "describe", "rsnap", POLICY))


def main() -> int:
    """Play it all; gives the exit code."""
    screen = Screen()
    try:
        cluster = open_cluster()
        screen.heading(
            0, "A cluster", "Built once, kept in a cache, started in seconds; everything by `kubectl apply -k`."
        )
        cluster.up()
        cluster.images(IMAGES)
        with Reach(cluster) as reach:
            stage = Stage(cluster, reach, screen)
            try:
                prepare(stage)
            except (LabError, NotInTimeError):
                look(stage, SETTING)
                raise
            rows = play(stage, STORY)
    except (LabError, NotInTimeError) as error:
        screen.line(screen.paint("1;31", f"demo: {error}"))
        return 1
    except KeyboardInterrupt:
        screen.line("demo: interrupted; the next `make demo` begins anew, `make lab-down` takes the lab down")
        return 130
    screen.table(rows)
    return conclude(screen, cluster, [proof for _, proof in rows])


def play(stage: Stage, story: Sequence[Step]) -> list[Row]:
    """Every step in its order; after one that did not come to its end the story stops."""
    rows: list[Row] = []
    for number, step in enumerate(story, 1):
        stage.screen.heading(number, step.title, step.tells)
        try:
            proofs = step.proofs(step.act(stage))
        except (LabError, NotInTimeError, RuntimeError) as error:
            proofs = [Proof("the step came to its end", False, str(error))]
        for proof in proofs:
            stage.screen.proof(proof)
            rows.append((step.title, proof))
        if not all(proof.holds for proof in proofs):
            look(stage, SCENE)
        if [proof.claim for proof in proofs] == ["the step came to its end"]:
            break
    return rows


def look(stage: Stage, commands: Sequence[Sequence[str]]) -> None:
    """Show what helps to understand a failure."""
    for words in commands:
        with contextlib.suppress(LabError):
            stage.show(*words)


def conclude(screen: Screen, cluster: Cluster, proofs: Sequence[Proof]) -> int:
    """The last lines; gives the exit code."""
    good = sum(proof.holds for proof in proofs)
    colour = "1;32" if good == len(proofs) else "1;31"
    screen.line()
    screen.line(screen.paint(colour, f"   {good} of {len(proofs)} proofs hold, {screen.elapsed:.0f} s"))
    screen.line("   Everything is still there. Look around:")
    if isinstance(cluster, Lab):
        screen.line('     eval "$(python3 -m tests.lab env)"')
    screen.line(f"     kubectl -n {NAMESPACE} get rsnap,pods")
    screen.line(f"     kubectl -n {NAMESPACE} describe rsnap {POLICY}")
    if isinstance(cluster, Lab):
        screen.line("     make lab-down    # and nothing is left")
    return 0 if good == len(proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
