# The test app in Node.js: Debian's nodejs, plain `http`.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN set -eu; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs >/dev/null; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
        /usr/share/doc /usr/share/man
COPY tests/apps /app
USER 65532:65532
ENTRYPOINT ["node", "/app/network.mjs"]
