"""Certificates of the control plane, made with openssl: one throw-away authority for each start of the lab."""

from pathlib import Path

from tests.lab.layout import ALL_NODES, HOST, KUBERNETES_SERVICE, Layout
from tests.lab.progress import run

DAYS = "30"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
API_NAMES = (
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,"
    f"IP:127.0.0.1,IP:{KUBERNETES_SERVICE},IP:{HOST}"
)
CLIENTS = {  # file name → subject
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
}


def write_certificates(layout: Layout) -> None:
    """Write the authority, the service account key, and a certificate for each component and node."""
    folder = layout.pki
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run(
        [
            "openssl",
            "req",
            "-x509",
            *CURVE,
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            "/CN=lab-ca",
            "-days",
            DAYS,
            *extensions,
        ],
        cwd=folder,
    )
    run(["openssl", "genrsa", "-out", "sa.key", "2048"], cwd=folder)
    run(["openssl", "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"], cwd=folder)
    sign(folder, "apiserver", "/CN=kube-apiserver", API_NAMES)
    for name, subject in CLIENTS.items():
        sign(folder, name, subject)
    for node in ALL_NODES:
        sign(folder, node.name, f"/O=system:nodes/CN=system:node:{node.name}", f"DNS:{node.name},IP:{node.address}")


def sign(folder: Path, name: str, subject: str, names: str = "") -> None:
    """Write `name`.key and `name`.crt, valid for both directions, for the subject and its alternative names."""
    run(["openssl", "req", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject], cwd=folder)
    use = "extendedKeyUsage=serverAuth,clientAuth\n" + (f"subjectAltName={names}\n" if names else "")
    (folder / f"{name}.ext").write_text(use)
    authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
    run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            *authority,
            "-out",
            f"{name}.crt",
            "-days",
            DAYS,
            "-extfile",
            f"{name}.ext",
        ],
        cwd=folder,
    )
