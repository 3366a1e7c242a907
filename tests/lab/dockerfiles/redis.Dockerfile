# The quickstart Redis: Debian's redis-server (it speaks TLS), openssl and python3, with which its init container makes
# certificates, run by a numeric user. One node, for people who have none of their own.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN set -eu; \
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        redis-server openssl python3-minimal libpython3-stdlib >/dev/null; \
    rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
        /usr/share/doc /usr/share/man; \
    mkdir -p /data; chown 65532:65532 /data
LABEL org.opencontainers.image.title="resonance-redis" \
      org.opencontainers.image.description="A single TLS Redis for trying resonance-operator out"
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["redis-server"]
