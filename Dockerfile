# Both images from one file: `--target agent` is the data plane in the user's pod, `--target operator` the control plane.
#
#   docker build --target agent    -t resonance-agent .
#   docker build --target operator -t resonance-operator .
#
# BASE is any Debian 12 (its python3 is 3.11): the public one, or one made on the spot.  Where pip downloads from is the
# builder's business (build argument PIP_INDEX_URL, or a mounted /etc/pip.conf); what it may install is not: every file
# must have the hash that requirements/*.lock names.
#
# What is in the result and why: the base, Python without pip or a compiler, and /opt/resonance.  All bytecode is made
# here and never checked against its source again (unchecked-hash): the root file system is read-only at run time, and
# an agent that compiled its imports would need seconds where it may take 300 ms.
ARG BASE=debian:bookworm-slim

# ---------------------------------------------------------------------------------------------------------------- python
# The run-time base of both images.  The module search path of Debian's python3-minimal is not compiled by its package:
# that is done here, once, for everything that a server can import.
FROM ${BASE} AS python
RUN set -eu; \
    if ! python3 -c 'import asyncio, ssl, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
        || [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then \
        apt-get update -qq; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            python3-minimal libpython3-stdlib ca-certificates >/dev/null; \
        rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /usr/share/doc /usr/share/man; \
    fi; \
    lib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
    rm -rf "$lib"/test "$lib"/lib2to3 "$lib"/idlelib "$lib"/pydoc_data "$lib"/turtle*; \
    python3 -m compileall -qq -f --invalidation-mode unchecked-hash "$lib"

# ----------------------------------------------------------------------------------------------------------------- build
# From the base, not from the stage above: Debian's python3 wants to compile also the files that were dropped there.
FROM ${BASE} AS build
ARG PIP_INDEX_URL=""
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=${PIP_CERT} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN set -eu; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        python3-venv ca-certificates binutils >/dev/null; \
    /usr/bin/python3 -m venv /build; \
    /usr/bin/python3 -m venv --without-pip /opt/resonance
WORKDIR /src
COPY requirements requirements
RUN /build/bin/pip install -q --require-hashes -r requirements/build.lock
COPY pyproject.toml LICENSE README.md ./
COPY operator operator
RUN /build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /build/wheel .

FROM build AS build-agent
RUN sh requirements/install.sh agent

FROM build AS build-operator
RUN sh requirements/install.sh operator

# ----------------------------------------------------------------------------------------------------------------- agent
FROM python AS agent
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="resonance-agent" \
      org.opencontainers.image.description="Restores and snapshots the in-memory state of a resonance network, in its pod" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-agent /opt/resonance /opt/resonance
# One arena, and memory that a capture no longer needs goes back at once: about 3 MiB less in each pod.
ENV PATH=/opt/resonance/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=65536 MALLOC_MMAP_THRESHOLD_=65536
USER 65532:65532
ENTRYPOINT ["resonance-agent"]

# -------------------------------------------------------------------------------------------------------------- operator
FROM python AS operator
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="resonance-operator" \
      org.opencontainers.image.description="Accepts ResonanceSnapshot policies, adopts running pods, reports status" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-operator /opt/resonance /opt/resonance
ENV PATH=/opt/resonance/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["resonance-operator"]
