"""The apps that feed every other test are themselves held to the contract, as processes, in each language."""

import copy
import json
import math
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.apps.network import State, changing, founded, sine, step
from tests.apps.process import NODE_NETWORK, PYTHON_NETWORK, App, eventually, free_port
from tests.programs import require, require_go

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LANGUAGES = [
    pytest.param(PYTHON_NETWORK, id="python"),
    pytest.param(NODE_NETWORK, id="node"),
]

Start = Callable[..., App]


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    """Node.js is there; a fresh machine gets it."""
    require("node", "nodejs")


@pytest.fixture(params=LANGUAGES)
def command(request: pytest.FixtureRequest) -> Sequence[str]:
    words: Sequence[str] = request.param
    return words


@pytest.fixture
def start(command: Sequence[str]) -> Iterator[Start]:
    """Start networks in this language; all of them are gone after the test."""
    with ExitStack() as running:
        yield lambda *flags, **files: running.enter_context(App.network(command, *flags, **files)).until_serving()


def snapshot_file(file: Path, state: State, identity: str) -> Path:
    """Write the state as an agent might: kinds and ids in any order, and the snapshot's name beside them."""
    shuffled = {kind: shuffle(content) for kind, content in shuffle(state).items()}
    document = {"snapshot": {"id": identity, "takenAt": "2026-01-02T03:04:05Z"}, **shuffled}
    file.write_text(json.dumps(document, indent=1))
    return file


def shuffle(table: dict[str, Any]) -> dict[str, Any]:
    return dict(random.Random(7).sample(list(table.items()), len(table)))


def later(state: State, ticks: int) -> State:
    for _ in range(ticks):
        state = step(state)
    return state


# The network


def test_sine_is_a_sine() -> None:
    assert max(abs(sine(x / 997) - math.sin(2 * math.pi * x / 997)) for x in range(-3000, 3000)) < 1e-11


def test_a_step_leaves_its_argument_alone() -> None:
    state = founded(20, 3, 100, 0)
    before = copy.deepcopy(state)
    assert step(state) != before
    assert state == before


def test_a_step_depends_on_neither_key_order_nor_a_round_trip_through_json() -> None:
    state = later(founded(50, 3, 100, 0), 3)
    rearranged = json.loads(json.dumps({kind: shuffle(content) for kind, content in shuffle(state).items()}))
    assert json.dumps(later(rearranged, 20)) == json.dumps(later(state, 20))


@pytest.mark.parametrize("kind", ["fields", "patterns"])
def test_a_forgotten_kind_is_found_out_within_a_tick(kind: str) -> None:
    state = later(founded(50, 3, 100, 0), 60)
    assert state[kind]
    assert step({**state, kind: {}}) != step(state)


@pytest.mark.parametrize(("percent", "count"), [(0, 0), (1, 3), (37, 94), (100, 253)])
def test_a_tick_changes_exactly_the_share_asked_for(percent: float, count: int) -> None:
    before = later(founded(253, 3, percent, 0), 5)
    after = step(before)
    assert sum(after["nodes"][name] != node for name, node in before["nodes"].items()) == count


def test_every_node_gets_its_turn() -> None:
    assert {place for tick in range(100) for place in changing(1000, 1, tick)} == set(range(1000))


@pytest.mark.parametrize("percent", [2.5, 100])
def test_both_languages_take_the_same_steps_to_the_last_bit(tmp_path: Path, percent: float) -> None:
    state = founded(200, 4_000_000_000, percent, 300)
    file = snapshot_file(tmp_path / "state.json", state, "line.1")
    printed = [
        subprocess.run([*words, "step", "--from", str(file), "--ticks", "150"], capture_output=True, check=True).stdout
        for words in (PYTHON_NETWORK, NODE_NETWORK)
    ]
    assert json.loads(printed[0]) == json.loads(printed[1]) == later(state, 150)


# Export


def test_an_export_is_the_state_and_proves_which_life_it_is_from(start: Start) -> None:
    app = start("--nodes", "40", "--seed", "9")
    reply = app.export()
    info = app.ask("GET", "/info").content
    assert (reply.status, reply.content) == (200, founded(40, 9, 100, 0))
    assert reply.headers["Resonance-Incarnation"] == info["incarnation"]
    assert reply.headers["Resonance-Restored-From"] == info["restoredFrom"] == "none"
    assert info["pid"] == app.process.pid


def test_each_life_has_its_own_incarnation(start: Start) -> None:
    assert len({start().export().headers["Resonance-Incarnation"] for _ in range(3)}) == 3


def test_an_unchanged_state_is_not_sent_again(start: Start) -> None:
    app = start()
    first = app.export()
    again = app.export(If_None_Match=first.headers["ETag"])
    app.ask("POST", "/tick?n=3")
    changed = app.export(If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Resonance-Incarnation"] == first.headers["Resonance-Incarnation"]
    assert (changed.status, changed.content) == (200, later(first.content, 3))


def test_a_network_that_is_not_ready_cannot_be_captured(start: Start) -> None:
    app = start("--startup-delay-ms", "1000")
    assert app.export().status == 503
    assert app.ask("GET", "/healthz").status == 200
    eventually(lambda: app.export().status == 200)


def test_an_export_is_never_torn_by_a_tick(start: Start) -> None:
    app = start("--tick-ms", "1", "--nodes", "300")
    earlier = app.export().content
    for _ in range(20):
        state = app.export().content
        assert state == later(earlier, state["metrics"]["tick"] - earlier["metrics"]["tick"])
        earlier = state
    assert earlier["metrics"]["tick"] > 20


def test_one_connection_serves_every_request(start: Start) -> None:
    app = start()
    line = app.connection.sock
    app.ask("POST", "/set", {"marker": 1})
    app.export(If_None_Match=app.export().headers["ETag"])
    app.ask("GET", "/nowhere")
    assert app.connection.sock is line


@pytest.mark.parametrize("nodes", [10, 1000])
def test_nodes_have_the_size_asked_for(start: Start, nodes: int) -> None:
    state = start("--nodes", str(nodes), "--bytes-per-node", "500").export().content
    assert len(state["nodes"]) == nodes
    assert {len(json.dumps(node, separators=(",", ":"))) for node in state["nodes"].values()} == {500}


def test_a_change_by_hand_is_seen_after_any_number_of_ticks(start: Start) -> None:
    app = start()
    app.ask("POST", "/set", {"marker": {"b": 0.1, "a": [1, "ü"]}, "changePercent": 10})
    app.ask("POST", "/tick?n=2")
    assert app.export().content["metrics"]["marker"] == {"b": 0.1, "a": [1, "ü"]}


@pytest.mark.parametrize("body", [{"tick": 3}, [1], {"changePercent": 101}, {"marker": math.nan}])
def test_a_change_that_would_break_the_state_is_refused(start: Start, body: object) -> None:
    app = start()
    before = app.export().headers["ETag"]
    assert app.ask("POST", "/set", body).status == 400
    assert app.export(If_None_Match=before).status == 304


def test_a_network_without_proof_headers_shows_none(start: Start) -> None:
    headers = start("--no-proof-headers").export().headers
    assert not [name for name in headers if name.startswith("Resonance-")]


@pytest.mark.parametrize("flags", [("--nodes", "9"), ("--nodes", "50001"), ("--change-percent", "101"), ("--what",)])
def test_a_wrong_flag_is_a_usage_error(command: Sequence[str], flags: Sequence[str]) -> None:
    with App.network(command, *flags) as app:
        assert flags[0] in app.last_words()
        assert app.process.returncode == 2


# Restore


def test_a_killed_network_goes_on_exactly_where_its_snapshot_was(start: Start, tmp_path: Path) -> None:
    first = start("--nodes", "300", "--seed", "5", "--bytes-per-node", "400")
    first.ask("POST", "/set", {"marker": "here"})
    first.ask("POST", "/tick?n=12")
    captured = first.export()
    first.ask("POST", "/tick?n=30")
    uninterrupted = first.export()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    second = start(restore=snapshot_file(tmp_path / "restore.json", captured.content, "cafe.12"))
    restored = second.export()
    assert restored.body == captured.body
    assert restored.headers["Resonance-Restored-From"] == "cafe.12"
    assert restored.headers["Resonance-Incarnation"] != captured.headers["Resonance-Incarnation"]
    second.ask("POST", "/tick?n=30")
    assert second.export().body == uninterrupted.body


def test_no_file_at_the_place_of_the_restore_file_is_a_first_start(start: Start, tmp_path: Path) -> None:
    reply = start("--nodes", "10", restore=tmp_path / "absent.json").export()
    assert (reply.headers["Resonance-Restored-From"], reply.content) == ("none", founded(10, 1, 100, 0))


def test_a_network_that_ignores_the_file_says_that_it_restored_nothing(start: Start, tmp_path: Path) -> None:
    file = snapshot_file(tmp_path / "restore.json", later(founded(20, 1, 100, 0), 9), "cafe.12")
    reply = start("--ignore-restore", restore=file).export()
    assert (reply.headers["Resonance-Restored-From"], reply.content["metrics"]["tick"]) == ("none", 0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nodes": {}}', '{"metrics": NaN}'])
def test_a_network_never_starts_empty_because_its_file_is_unreadable(
    command: Sequence[str], tmp_path: Path, text: str
) -> None:
    file = tmp_path / "restore.json"
    file.write_text(text)
    with App.network(command, restore=file) as app:
        assert "Not starting empty" in app.last_words()
        assert app.process.returncode == 1


# End


def test_the_last_state_is_left_behind_on_sigterm(start: Start, tmp_path: Path) -> None:
    app = start(final=tmp_path / "final.json")
    app.ask("POST", "/tick?n=4")
    exported = app.export().body
    assert app.end() == 0
    assert [file.name for file in tmp_path.iterdir()] == ["final.json"]
    assert (tmp_path / "final.json").read_bytes() == exported


def test_a_network_told_so_leaves_no_final_file(start: Start, tmp_path: Path) -> None:
    assert start("--no-final", final=tmp_path / "final.json").end() == 0
    assert not list(tmp_path.iterdir())


def test_a_network_that_lingers_goes_on_changing_and_answering_after_sigterm(start: Start, tmp_path: Path) -> None:
    app = start("--tick-ms", "2", "--linger-ms", "1000", final=tmp_path / "final.json")
    app.process.send_signal(signal.SIGTERM)
    at_sigterm = app.export().content
    eventually(lambda: app.export().content["metrics"]["tick"] > at_sigterm["metrics"]["tick"] + 5)
    assert app.process.wait(15) == 0
    final = json.loads((tmp_path / "final.json").read_text())
    assert final == later(at_sigterm, final["metrics"]["tick"] - at_sigterm["metrics"]["tick"])


def test_a_network_dies_when_told_with_the_code_it_was_told(start: Start) -> None:
    app = start()
    with pytest.raises(ConnectionError):
        app.ask("POST", "/die?code=7")
    assert app.process.wait(15) == 7


def test_a_network_eats_real_memory(start: Start) -> None:
    app = start()
    resident = Path(f"/proc/{app.process.pid}/statm")
    before = int(resident.read_text().split()[1])
    assert app.ask("POST", "/eat?mb=32").content == {"eatenMb": 32}
    assert int(resident.read_text().split()[1]) - before > 30 * 256  # pages of 4 KiB


# The examples of the documents


@pytest.fixture(
    params=[
        "app.py",
        "app.mjs",
        "app.go",
    ]
)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Sequence[str]:
    """The command that runs an example; the Go one is compiled."""
    file = EXAMPLES / request.param
    if file.suffix == ".go":
        subprocess.run([require_go(), "build", "-o", tmp_path / "app", file], check=True)
        return [str(tmp_path / "app")]
    return [PYTHON_NETWORK[0] if file.suffix == ".py" else NODE_NETWORK[0], str(file)]


def run(example: Sequence[str], restore: Path) -> App:
    return App(example, free_port(), {"RESONANCE_RESTORE_FILE": str(restore)})


def test_an_example_keeps_its_state_across_lives(example: Sequence[str], tmp_path: Path) -> None:
    file = tmp_path / "restore.json"
    with run(example, file).until_serving() as first:
        for _ in range(3):
            first.ask("GET", "/")
        before = first.export()
        assert first.end() in {0, -signal.SIGTERM}  # Go leaves a signal to its default
    file.write_text(json.dumps({**before.content, "snapshot": {"id": "cafe.3", "takenAt": "2026-01-02T03:04:05Z"}}))
    with run(example, file).until_serving() as second:
        after = second.export()
    assert before.headers["Resonance-Restored-From"] == "none"
    assert before.content == {"nodes": {"a": {"phase": 0.25}}, "metrics": {"visits": 3}}
    assert after.content == before.content
    assert after.headers["Resonance-Restored-From"] == "cafe.3"
    assert after.headers["Resonance-Incarnation"] != before.headers["Resonance-Incarnation"]


def test_an_example_never_starts_empty_because_its_file_is_unreadable(example: Sequence[str], tmp_path: Path) -> None:
    file = tmp_path / "restore.json"
    file.write_text('{"nodes": {"a"')
    with run(example, file) as app:
        assert app.last_words()
        assert app.process.returncode != 0
