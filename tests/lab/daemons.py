"""The command line of every daemon of the lab.

By name: `etcd`, `apiserver`, …, and for each node `holder1`, `containerd1`, `kubelet1`, `proxy1`.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.lab.debian import ADMIN_PATH
from tests.lab.layout import ALL_NODES, API_PORT, ETCD_PEER_PORT, ETCD_PORT, GROUP, HOST, SERVICES, Layout, Node
from tests.lab.processes import Daemon

ETCD = f"http://127.0.0.1:{ETCD_PORT}"
PEER = f"http://127.0.0.1:{ETCD_PEER_PORT}"
# What a node's daemons write outside of the folders that they are given → its place in the node's folder.
PRIVATE_FOLDERS = {
    "/run/containerd": "private/containerd",
    "/etc/cni": "private/cni-configuration",
    "/var/lib/cni": "private/cni-results",
    "/var/lib/kubelet": "private/kubelet",
    "/var/log/containers": "private/log-links",
    "/usr/libexec/kubernetes": "private/plugins",
}


def environment(layout: Layout) -> Mapping[str, str]:
    """A bare environment: our programs first on the path, then the system's."""
    return {"PATH": f"{layout.bin}:{ADMIN_PATH}", "HOME": "/root", "LC_ALL": "C.UTF-8"}


def daemon(layout: Layout, name: str, *words: str) -> Daemon:
    """Put one together."""
    return Daemon(name, words, environment(layout))


def etcd(layout: Layout) -> Daemon:
    return daemon(
        layout,
        "etcd",
        str(layout.bin / "etcd"),
        f"--data-dir={layout.state}/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={PEER}",
        f"--initial-advertise-peer-urls={PEER}",
        f"--initial-cluster=default={PEER}",
        "--unsafe-no-fsync",  # the lab is thrown away; a slow disk must not slow the tests
        "--log-level=warn",
    )


def apiserver(layout: Layout) -> Daemon:
    pki = layout.pki
    return daemon(
        layout,
        "apiserver",
        str(layout.bin / "kube-apiserver"),
        f"--etcd-servers={ETCD}",
        f"--advertise-address={HOST}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--enable-aggregator-routing=true",  # reach services by pod address: the host itself has no service addresses
        f"--audit-policy-file={layout.state}/audit-policy.yaml",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=64",
        "--audit-log-maxbackup=2",
    )


def controller_manager(layout: Layout) -> Daemon:
    return daemon(
        layout,
        "controller-manager",
        str(layout.bin / "kube-controller-manager"),
        f"--kubeconfig={layout.state}/controller-manager.conf",
        f"--service-account-private-key-file={layout.pki}/sa.key",
        f"--root-ca-file={layout.pki}/ca.crt",
        "--use-service-account-credentials",
        "--controllers=*,-nodeipam",
        "--leader-elect=false",
        "--node-monitor-grace-period=8s",
        f"--flex-volume-plugin-dir={layout.state}/plugins",
        "--bind-address=127.0.0.1",
    )


def scheduler(layout: Layout) -> Daemon:
    return daemon(
        layout,
        "scheduler",
        str(layout.bin / "kube-scheduler"),
        f"--kubeconfig={layout.state}/scheduler.conf",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    )


def coredns(layout: Layout) -> Daemon:
    return daemon(layout, "coredns", str(layout.bin / "coredns"), "-conf", f"{layout.state}/Corefile")


def holder(layout: Layout, node: Node) -> Daemon:
    """Keep the node's network and mount namespace alive. Its mounts reach nobody else.

    The folders that its daemons insist on are its own.
    """
    binds = " && ".join(
        f'mount --bind "{layout.node(node)}/{place}" {folder}' for folder, place in PRIVATE_FOLDERS.items()
    )
    held = f'touch "{layout.node(node)}/held"'
    script = (
        f"mount --make-rslave / && mount --make-rshared / && {binds} && {held} && exec /bin/busybox sleep 2147483647"
    )
    return daemon(
        layout,
        f"holder{node.number}",
        "unshare",
        "--net",
        "--mount",
        "--propagation",
        "unchanged",
        "/bin/sh",
        "-c",
        script,
    )


def enter(pid: int) -> tuple[str, ...]:
    """The words that run what follows inside the node whose holder is `pid`. Not `ip netns exec`.

    That hides /sys/fs/cgroup.
    """
    return ("nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", "--")


def node_daemons(layout: Layout, node: Node, pid: int) -> tuple[Daemon, Daemon, Daemon]:
    """containerd, kubelet and kube-proxy of a node whose holder is `pid`."""
    folder, number = layout.node(node), node.number
    return (
        daemon(
            layout,
            f"containerd{number}",
            *enter(pid),
            str(layout.bin / "containerd"),
            "-c",
            f"{folder}/containerd.toml",
        ),
        daemon(
            layout,
            f"kubelet{number}",
            *enter(pid),
            str(layout.bin / "kubelet"),
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={layout.state}/{node.name}.conf",
            f"--root-dir={folder}/kubelet",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            f"--cert-dir={folder}/kubelet/pki",
        ),
        daemon(layout, f"proxy{number}", *enter(pid), str(layout.bin / "kube-proxy"), f"--config={folder}/proxy.yaml"),
    )


def names() -> tuple[str, ...]:
    """Name every daemon that `up` starts, in order."""
    per_node = (f"{part}{node.number}" for node in ALL_NODES for part in ("holder", "containerd", "kubelet", "proxy"))
    return ("etcd", "apiserver", "controller-manager", "scheduler", "coredns", *per_node)


def belongs(pid: int, proc: Path = Path("/proc")) -> bool:
    """True: the process is in the lab's control groups, whoever its parent is."""
    try:
        return f"/{GROUP}/" in (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return False
