"""The configuration files of the cluster, as text: what each part is told, and why where it is not the default."""

import json
from collections.abc import Mapping

from tests.lab.cgroups import Version
from tests.lab.layout import ALL_NODES, API_PORT, CONTEXT, DNS_SERVICE, GROUP, HOST, Layout, Node

PAUSE_IMAGE = "localhost/pause:lab"
VOLUMES_PER_NODE = 8
STORAGE_CLASS = "lab"


def as_text(value: object) -> str:
    """JSON is YAML: one writer for all configuration files."""
    return json.dumps(value, indent=1) + "\n"


def kubeconfig(layout: Layout, who: str) -> str:
    """Let `who` (a certificate in the pki folder) in at the API server."""
    return as_text(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "lab",
                    "cluster": {
                        "server": f"https://{HOST}:{API_PORT}",
                        "certificate-authority": str(layout.pki / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": who,
                    "user": {
                        "client-certificate": str(layout.pki / f"{who}.crt"),
                        "client-key": str(layout.pki / f"{who}.key"),
                    },
                }
            ],
            "contexts": [{"name": CONTEXT, "context": {"cluster": "lab", "user": who}}],
            "current-context": CONTEXT,
        }
    )


def audit_policy() -> str:
    """Log who did what to our resources, pods and workloads.

    The cluster's own parts, which talk all the time, are left out.
    """
    none: Mapping[str, object] = {"level": "None"}
    return as_text(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [
                {**none, "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
                {
                    **none,
                    "users": [
                        "system:apiserver",
                        "system:kube-proxy",
                        "system:kube-scheduler",
                        "system:kube-controller-manager",
                    ],
                },
                {"level": "Metadata", "resources": [{"group": "resonance.dev"}, {"group": ""}, {"group": "apps"}]},
                none,
            ],
        }
    )


def corefile(layout: Layout) -> str:
    """Answer the names of the cluster, from the host's address; nothing else is reachable anyway."""
    kubernetes = f" kubernetes cluster.local {{\n  kubeconfig {layout.kubeconfig}\n  ttl 2\n }}"
    return f".:53 {{\n bind {HOST}\n{kubernetes}\n errors\n}}\n"


def containerd(folder: str) -> str:
    """Give containerd its own folders, the pause image that the lab imports, and the CNI configuration of the node."""
    return f"""version = 3
root = "{folder}/containerd"
state = "{folder}/run/containerd"
[grpc]
  address = "{folder}/run/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      Root = "{folder}/run/runc"
      SystemdCgroup = false
"""


def cni(node: Node, folder: str) -> str:
    """Point-to-point cables from each pod to the node; the reason is in tests.lab.network."""
    ipam = {
        "type": "host-local",
        "dataDir": f"{folder}/ipam",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return as_text({"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "ptp", "ipam": ipam}]})


def kubelet(layout: Layout, node: Node, groups: Version) -> str:
    """Configure one kubelet.

    Secrets seen within 10 s, a heartbeat each 2 s, no image ever collected (there is no registry to fetch it again).
    """
    folder = layout.node(node)
    only_v1 = {"failCgroupV1": False} if groups is Version.V1 else {}
    return as_text(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(layout.pki / f"{node.name}.crt"),
            "tlsPrivateKeyFile": str(layout.pki / f"{node.name}.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{GROUP}/{node.name}",
            **only_v1,
            "failSwapOn": False,
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "containerRuntimeEndpoint": f"unix://{layout.containerd_socket(node)}",
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "syncFrequency": "10s",
            "nodeStatusUpdateFrequency": "2s",
            "localStorageCapacityIsolation": False,
            "podLogsDir": f"{folder}/podlogs",
            "volumePluginDir": f"{folder}/plugins",
        }
    )


def proxy(layout: Layout, node: Node) -> str:
    """Configure kube-proxy with nftables; the connection tracker's sizes belong to the host and stay as they are."""
    return as_text(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(layout.state / "proxy.conf")},
            "mode": "nftables",
            "clusterCIDR": "10.244.0.0/16",
            "hostnameOverride": node.name,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
    )


def dns_objects() -> list[dict[str, object]]:
    """The service `kube-dns`, pointed at the host, where CoreDNS runs as a plain process."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-host",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [HOST]}],
        },
    ]


def storage_class() -> dict[str, object]:
    """The default storage class.

    A claim waits for its first pod and then gets one of the volumes that the lab made beforehand.
    """
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def volume_names() -> list[tuple[Node, str]]:
    """Name the volumes of every node."""
    return [(node, f"{node.name}-volume{index}") for node in ALL_NODES for index in range(1, VOLUMES_PER_NODE + 1)]


def volume(layout: Layout, node: Node, name: str) -> dict[str, object]:
    """One local volume, a folder in the state folder, usable on its node only."""
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(layout.volumes / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }
