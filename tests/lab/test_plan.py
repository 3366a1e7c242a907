"""What the lab decides before it touches the machine: what to build, what to write, what to cut, what to take away."""

import io
import json
import os
import re
import signal
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab import build, cgroups, daemons, debian, files, images, network, processes, teardown
from tests.lab.__main__ import main, parser
from tests.lab.containers import ContainerName
from tests.lab.failure import LabError
from tests.lab.foreign import ForeignCluster, Kind, open_cluster
from tests.lab.layout import ALL_NODES, BRIDGE, GROUP, HOST, REPOSITORY, Layout, node_named
from tests.lab.network import Cut

NODE1, NODE2 = ALL_NODES


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "cache", tmp_path / "state")


# ---------------------------------------------------------------------------------------------------------------- build
def kubernetes(version: str = "1.36.3") -> build.Module:
    return build.modules({**build.versions({}), "kubernetes": version})[0]


def test_one_line_chooses_the_kubernetes_version() -> None:
    text = re.sub(
        r'^kubernetes = ".*"',
        'kubernetes = "1.37.2"',
        (build.MODULES / "versions.toml").read_text(),
        flags=re.MULTILINE,
    )
    module = build.modules(build.versions({}, text))[0]
    assert module.version == "1.37.2"
    assert "gitVersion=v1.37.2" in module.link
    assert "gitMinor=37" in module.link
    assert "k8s.io/api v0.37.2" in module.replaced


def test_the_environment_wins_over_the_file_of_versions() -> None:
    assert build.versions({"LAB_KUBERNETES": "1.37.2"})["kubernetes"] == "1.37.2"


def test_a_version_that_is_none_is_refused_with_path_value_and_remedy() -> None:
    with pytest.raises(LabError, match=r"versions.toml: kubernetes: 'latest' is not a version. Write it like 1.36.3"):
        kubernetes("latest")


def test_every_committed_module_is_pinned_to_its_declared_version() -> None:
    for module in build.modules(build.versions({})):
        committed = build.committed(module)
        assert set(committed) == {"go.mod", "go.sum"}, module.name
        assert build.pinned(module, committed["go.mod"].decode()), module.name


def test_another_version_is_not_taken_for_the_pinned_one() -> None:
    assert not build.pinned(kubernetes("1.36.30"), build.committed(kubernetes())["go.mod"].decode())


@pytest.mark.parametrize("changed", [{"go.mod": b"x", "go.sum": b""}, {"go.mod": b"", "go.sum": b"x"}, {}])
def test_the_key_covers_the_module_files(changed: Mapping[str, bytes]) -> None:
    assert build.key(kubernetes(), {"go.mod": b"", "go.sum": b""}, "x86_64") != build.key(
        kubernetes(), changed, "x86_64"
    )


def test_the_key_covers_version_flags_and_architecture() -> None:
    plain = build.key(kubernetes(), {}, "x86_64")
    assert plain == build.key(kubernetes(), {}, "x86_64")
    assert plain != build.key(kubernetes("1.37.2"), {}, "x86_64")
    assert plain != build.key(kubernetes(), {}, "aarch64")


def test_a_module_counts_as_built_only_with_all_of_its_programs(layout: Layout) -> None:
    module = kubernetes()
    folder = build.folder_of(module, layout)
    folder.mkdir(parents=True)
    for program in module.programs[1:]:
        (folder / program.name).touch()
    assert not build.built(module, layout)
    (folder / module.programs[0].name).touch()
    assert build.built(module, layout)


def test_go_versions_compare_as_numbers() -> None:
    assert build.as_numbers("go1.26.8") > build.as_numbers("1.26.6") > build.as_numbers("go1.9")
    assert build.as_numbers("go1.27rc1") == (1, 27, 0)
    assert build.needed_go() >= (1, 26, 0)


# --------------------------------------------------------------------------------------------------------------- debian
def test_only_packages_whose_tool_is_missing_are_asked_for() -> None:
    assert debian.missing(lambda _: True) == ()
    assert debian.missing(lambda thing: thing not in {"nft", "runc"}) == ("nftables", "runc")


def test_the_mirror_is_read_from_either_format_of_apt() -> None:
    stanza = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
    line = "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n"
    other = "deb http://security.example/debian-security bookworm-security main\n"
    assert debian.parse_sources([stanza]) == ("http://mirror.example/debian", "bookworm")
    assert debian.parse_sources([other, line]) == ("http://mirror.example/debian", "bookworm")
    with pytest.raises(LabError, match="no Debian archive"):
        debian.parse_sources([other])


# --------------------------------------------------------------------------------------------------------------- layout
def test_the_folders_follow_the_environment() -> None:
    given = Layout.from_environment({"XDG_CACHE_HOME": "/c", "HOME": "/h"})
    assert given == Layout(Path("/c/resonance-lab"), Path("/c/resonance-lab/state"))
    assert Layout.from_environment({"HOME": "/h"}).cache == Path("/h/.cache/resonance-lab")
    assert Layout.from_environment({"HOME": "/h", "RESONANCE_LAB_STATE": "/v"}).state == Path("/v")


@pytest.mark.parametrize("state", [str(REPOSITORY / "state"), "/" + "x" * 90])
def test_a_state_folder_in_the_checkout_or_too_long_for_sockets_is_refused(state: str) -> None:
    with pytest.raises(LabError, match="RESONANCE_LAB_STATE"):
        Layout.from_environment({"HOME": "/h", "RESONANCE_LAB_STATE": state})


def test_an_unknown_node_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"'node3' does not exist. The lab has node1, node2"):
        node_named("node3")


# -------------------------------------------------------------------------------------------------------------- network
def test_a_node_cut_off_from_the_api_server_loses_both_directions_in_every_hook() -> None:
    rules = network.cut_rules(NODE1, Cut.APISERVER)
    assert rules.count(f"ip daddr {HOST} tcp dport 6443 drop") == 3
    assert rules.count(f"ip saddr {HOST} tcp sport 6443 drop") == 3
    assert {line.split()[3 + line.split()[2:].index("hook")] for line in rules.splitlines() if "hook" in line} == {
        "input",
        "output",
        "forward",
    }


def test_a_node_cut_off_from_redis_loses_what_its_own_pods_say_and_hear() -> None:
    rules = network.cut_rules(NODE2, Cut.REDIS)
    assert "ip saddr 10.244.2.0/24 tcp dport { 6379, 6380 } drop" in rules
    assert "ip daddr 10.244.2.0/24 tcp sport { 6379, 6380 } drop" in rules
    assert "10.244.1.0" not in rules


def test_a_cut_from_one_redis_names_its_address() -> None:
    rules = network.cut_rules(NODE1, Cut.REDIS, ["10.244.2.7:6380"])
    assert "ip saddr 10.244.1.0/24 ip daddr 10.244.2.7 tcp dport 6380 drop" in rules


def test_cables_are_removed_before_the_bridge() -> None:
    assert network.links()[-1] == BRIDGE
    assert network.links()[:-1] == [node.link for node in ALL_NODES]


def test_a_node_knows_the_way_to_the_pods_of_the_other_one_only() -> None:
    ways = [" ".join(command) for command in network.inside_up(NODE1, ALL_NODES)]
    assert "ip route add 10.244.2.0/24 via 10.99.0.12" in ways
    assert not any("10.244.1.0" in way for way in ways)


def test_forwarding_is_opened_only_where_the_host_drops_it_and_closed_again() -> None:
    assert network.open_forwarding("-P FORWARD ACCEPT\n") == []
    opened = network.open_forwarding("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n")
    shown = "-P FORWARD DROP\n" + "".join(f"-A FORWARD {' '.join(words[3:])}\n" for words in opened)
    assert network.close_forwarding(shown) == [("iptables", "-D", *words[2:]) for words in opened]
    assert network.close_forwarding("-P FORWARD DROP\n-A FORWARD -o docker0 -j ACCEPT\n") == []


# -------------------------------------------------------------------------------------------- files and command lines
def test_every_configuration_file_is_readable(layout: Layout) -> None:
    for text in (
        files.kubeconfig(layout, "admin"),
        files.audit_policy(),
        files.cni(NODE1, "/d"),
        files.proxy(layout, NODE1),
        files.kubelet(layout, NODE1, cgroups.Version.V2),
    ):
        assert json.loads(text)


def test_the_kubelet_is_told_about_cgroup_v1_only_where_it_is_v1(layout: Layout) -> None:
    assert json.loads(files.kubelet(layout, NODE1, cgroups.Version.V1))["failCgroupV1"] is False
    assert "failCgroupV1" not in json.loads(files.kubelet(layout, NODE1, cgroups.Version.V2))


def test_a_changed_secret_reaches_a_pod_within_ten_seconds(layout: Layout) -> None:
    assert json.loads(files.kubelet(layout, NODE1, cgroups.Version.V2))["syncFrequency"] == "10s"


def test_the_audit_log_counts_our_resources_and_not_the_chatter_of_the_cluster() -> None:
    rules = json.loads(files.audit_policy())["rules"]
    logged = [rule for rule in rules if rule["level"] != "None"]
    assert [resource["group"] for resource in logged[0]["resources"]] == ["resonance.dev", "", "apps"]
    assert rules[-1] == {"level": "None"}


def test_every_daemon_runs_inside_its_node_and_not_through_ip_netns_exec(layout: Layout) -> None:
    for daemon in daemons.node_daemons(layout, NODE1, 4711):
        assert daemon.argv[:3] == ("nsenter", "--net=/proc/4711/ns/net", "--mount=/proc/4711/ns/mnt")


def test_the_api_server_reaches_webhooks_by_pod_address(layout: Layout) -> None:
    assert "--enable-aggregator-routing=true" in daemons.apiserver(layout).argv


def test_a_lost_node_is_noticed_within_eight_seconds(layout: Layout) -> None:
    assert "--node-monitor-grace-period=8s" in daemons.controller_manager(layout).argv


def test_volumes_belong_to_one_node_each(layout: Layout) -> None:
    volume = json.dumps(files.volume(layout, NODE2, "node2-volume1"))
    assert '"values": ["node2"]' in volume
    assert len(files.volume_names()) == 2 * files.VOLUMES_PER_NODE


# --------------------------------------------------------------------------------------------------------------- images
def test_an_image_is_named_by_its_base_its_target_and_its_files(tmp_path: Path) -> None:
    agent, operator, *_ = images.ALL
    first = images.key(agent, "base", {"a": b"1"})
    assert first == images.key(agent, "base", {"a": b"1"})
    others = (
        images.key(agent, "base", {"a": b"2"}),
        images.key(agent, "b", {"a": b"1"}),
        images.key(operator, "base", {"a": b"1"}),
    )
    assert first not in others


def test_bytecode_is_no_part_of_an_image(tmp_path: Path) -> None:
    image = images.Image("x", "Dockerfile", ("code",))
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    for name in ("Dockerfile", "code/a.py", "code/__pycache__/a.pyc", "code/b.pyc"):
        (tmp_path / name).write_text(name)
    assert set(images.contents(image, tmp_path)) == {"Dockerfile", "code/a.py"}


def test_an_image_that_is_not_built_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(LabError, match=r"'operator' is not built here. Images: resonance-agent"):
        images.chosen(["operator"])


def test_the_pause_archive_is_the_same_each_time_and_names_its_layer() -> None:
    first = images.archive("localhost/pause:lab", {"bin/busybox": b"elf"}, ["/bin/busybox"])
    assert first == images.archive("localhost/pause:lab", {"bin/busybox": b"elf"}, ["/bin/busybox"])
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert tar.getnames() == ["config.json", "layer.tar", "manifest.json"]


# ------------------------------------------------------------------------------------------------ processes and groups
@pytest.fixture
def sleeper(layout: Layout, tmp_path: Path) -> Iterator[processes.Record]:
    """A daemon in a plain folder that plays the control group."""
    (tmp_path / "cgroup.procs").touch()
    record = processes.start(layout, processes.Daemon("sleeper", ("/bin/sleep", "60"), {"PATH": "/bin"}), tmp_path)
    yield record
    if record.alive():
        os.kill(record.pid, signal.SIGKILL)


def test_a_daemon_enters_its_group_before_it_starts(sleeper: processes.Record, tmp_path: Path) -> None:
    assert int((tmp_path / "cgroup.procs").read_text()) > 0
    assert sleeper.alive()


def test_starting_a_running_daemon_again_changes_nothing(
    sleeper: processes.Record, layout: Layout, tmp_path: Path
) -> None:
    assert processes.start(layout, sleeper.daemon, tmp_path) == sleeper
    assert processes.records(layout) == {"sleeper": sleeper}


def test_a_killed_daemon_starts_again_as_another_process(
    sleeper: processes.Record, layout: Layout, tmp_path: Path
) -> None:
    processes.kill(layout, "sleeper")
    assert not sleeper.alive()
    again = processes.start(layout, sleeper.daemon, tmp_path)
    assert again.alive()
    assert again.pid != sleeper.pid
    processes.kill(layout, "sleeper")


def test_a_reused_process_id_is_not_taken_for_the_daemon(sleeper: processes.Record) -> None:
    assert not processes.Record(sleeper.daemon, sleeper.pid, sleeper.birth - 1).alive()


def test_an_unknown_process_is_refused_with_the_known_ones(sleeper: processes.Record, layout: Layout) -> None:
    with pytest.raises(LabError, match=r"'apiserver' is not of this lab. It has: sleeper"):
        processes.kill(layout, "apiserver")


def test_each_controller_of_cgroup_v1_is_a_tree_of_its_own(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "memory2").symlink_to(tmp_path / "memory")
    assert cgroups.version(tmp_path) is cgroups.Version.V1
    assert cgroups.trees(tmp_path) == (tmp_path / "memory", tmp_path / "pids")
    assert cgroups.home_of_daemons(tmp_path) == tmp_path / "pids" / GROUP / "daemons"


def test_cgroup_v2_is_one_tree(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    assert cgroups.version(tmp_path) is cgroups.Version.V2
    assert cgroups.trees(tmp_path) == (tmp_path,)


# ----------------------------------------------------------------------------------------------------------------- down
def test_mounts_are_removed_deepest_first_and_only_ours() -> None:
    table = "x /s/a tmpfs rw 0 0\nx /s/a/b\\040c overlay rw 0 0\nx /state2 tmpfs rw 0 0\nx / ext4 rw 0 0\n"
    assert teardown.mounts_under(Path("/s"), table) == ["/s/a/b c", "/s/a"]


def test_half_written_settings_are_no_settings(layout: Layout) -> None:
    assert teardown.remembered(layout) == ({}, ())
    layout.state.mkdir()
    (layout.state / teardown.SETTINGS_FILE).write_text('{"settings": {"net.')
    assert teardown.remembered(layout) == ({}, ())


# ------------------------------------------------------------------------------------------------------- other clusters
def test_no_context_is_taken_without_being_named() -> None:
    with pytest.raises(LabError, match="Add CONTEXT=name"):
        open_cluster({"CLUSTER": "current"})
    assert open_cluster({"CLUSTER": "current", "CONTEXT": "mine"}) == ForeignCluster(Kind.CURRENT, "mine")


def test_an_unknown_kind_of_cluster_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match="'minikube' is not one of lab, kind, current"):
        open_cluster({"CLUSTER": "minikube"})


# --------------------------------------------------------------------------------------------------------- command line
def test_a_container_is_written_as_namespace_pod_container() -> None:
    name = ContainerName.parse("default/web-0/app")
    assert name == ContainerName("default", "web-0", "app")
    assert 'labels."io.kubernetes.pod.namespace"==default' in name.filter()
    assert 'labels."io.kubernetes.container.name"==app' in name.filter()
    with pytest.raises(LabError, match="not namespace/pod/container"):
        ContainerName.parse("web-0/app")


def test_the_command_line_knows_what_a_node_can_be_cut_off_from() -> None:
    given = parser().parse_args(["cut", "node1", "redis", "10.244.2.7:6380"])
    assert (given.node, given.what, given.addresses) == ("node1", Cut.REDIS, ["10.244.2.7:6380"])


def test_wrong_words_are_a_usage_error() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cut", "node3", "redis"])
    assert ended.value.code == 2
