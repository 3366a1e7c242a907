# The test app in Python: standard library only.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN set -eu; \
    if ! python3 -c 'import http.server' 2>/dev/null; then \
        apt-get update -qq; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-minimal libpython3-stdlib >/dev/null; \
        rm -rf /var/lib/apt/lists/*; \
    fi
COPY tests/apps /app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python3", "/app/network.py"]
