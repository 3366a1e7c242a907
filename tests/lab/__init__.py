"""A real Kubernetes on one Linux machine, without Docker.

Two nodes in network namespaces, one command up, one command down.

The idea: everything a cluster consists of is a Go program, so the Go module proxy and Debian's packages are enough to
make one. The programs are built once and kept in a cache under the hash of what they were built from. Every process
of the lab lives in one control group tree, every node in its own network *and* mount namespace. So taking the lab
down needs no memory of how it was brought up: kill the tree, and the kernel drops the namespaces with their mounts;
what is left has fixed names. That is why `down` also works after a crash in the middle of `up`.

Standard library only: this runs before the project's virtual environment exists.

Deliberately not here: anything about snapshots. The lab knows Kubernetes, images and faults.
"""

from tests.lab.cluster import Cluster, Lab
from tests.lab.failure import LabError
from tests.lab.foreign import ForeignCluster, open_cluster
from tests.lab.network import Cut

__all__ = ["Cluster", "Cut", "ForeignCluster", "Lab", "LabError", "open_cluster"]
