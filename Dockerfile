# The programs of this repository, a target each: docker build --target pg-exporter .
# One step uses the network, `cargo fetch`; what follows is offline and locked. The digests are those of the indexes of all
# machines: linux/amd64 and linux/arm64 build from the same text.
ARG RUST=rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f

FROM ${RUST} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo fetch --locked
# What did not change since the last build is in the cache, whatever layer it was.
ARG REVISION=unknown
ENV GIT_REVISION=${REVISION}
RUN --network=none \
    --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --config .cargo/static.toml --offline --locked --bins \
        --package pg-exporter --package redis-exporter --package business-exporter \
        --package autodealgenie-backend --package xtask \
 && mkdir /programs \
 && cd "target/$(rustc --print host-tuple)/release" \
 && cp pg-exporter redis-exporter business-exporter autodealgenie-backend xtask /programs/

# Certificates of authorities, names looked up in files and by DNS, an account without rights: no shell, no package manager.
FROM ${BASE} AS base
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.vendor="AutoDealGenie" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532

FROM base AS pg-exporter
LABEL org.opencontainers.image.title="pg-exporter" \
      org.opencontainers.image.description="Prometheus exporter for PostgreSQL"
COPY --from=build /programs/pg-exporter /pg-exporter
EXPOSE 9187
HEALTHCHECK --interval=15s --timeout=5s CMD ["/pg-exporter", "healthcheck"]
ENTRYPOINT ["/pg-exporter"]

FROM base AS redis-exporter
LABEL org.opencontainers.image.title="redis-exporter" \
      org.opencontainers.image.description="Prometheus exporter for Redis and Valkey"
COPY --from=build /programs/redis-exporter /redis-exporter
EXPOSE 9121
HEALTHCHECK --interval=15s --timeout=5s CMD ["/redis-exporter", "healthcheck"]
ENTRYPOINT ["/redis-exporter"]

FROM base AS business-exporter
LABEL org.opencontainers.image.title="business-exporter" \
      org.opencontainers.image.description="SQL queries and events of tables as Prometheus metrics"
COPY --from=build /programs/business-exporter /business-exporter
EXPOSE 9188
HEALTHCHECK --interval=15s --timeout=5s CMD ["/business-exporter", "healthcheck"]
ENTRYPOINT ["/business-exporter"]

FROM base AS backend
LABEL org.opencontainers.image.title="autodealgenie-backend" \
      org.opencontainers.image.description="The car-deal service"
COPY --from=build /programs/autodealgenie-backend /autodealgenie-backend
ENV LISTEN=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s CMD ["/autodealgenie-backend", "healthcheck"]
ENTRYPOINT ["/autodealgenie-backend"]

FROM base AS traffic
LABEL org.opencontainers.image.title="autodealgenie-traffic" \
      org.opencontainers.image.description="Uses the backend as its users would"
COPY --from=build /programs/xtask /xtask
ENTRYPOINT ["/xtask", "traffic"]
