# syntax=docker/dockerfile:1
# Three images from one build, each one static binary and nothing else:
#   docker build --target operator --tag ghcr.io/tenantry/tenantry-operator:0.2.0 .
#   docker build --target api --tag ghcr.io/tenantry/tenantry-api:0.2.0 .
#   docker build --target kubectl --output type=local,dest=. .    # kubectl-tenantry, as a file to put into the PATH
# Say which commit it is with --build-arg REVISION=$(git rev-parse HEAD). The same sources, REVISION and SOURCE_DATE_EPOCH give the same
# binaries; SECURITY.md says how that is checked, and how a release is signed.

# Alpine's Rust builds for musl, statically.
FROM docker.io/library/rust:1.95-alpine AS build
# The TLS library builds C and assembly, and includes a header of the kernel.
RUN apk add --no-cache ca-certificates cmake g++ linux-headers make musl-dev perl
WORKDIR /src
COPY . .
# A static binary does not tell what is in it, so the bill of materials is made here, where Cargo.lock is.
ARG BUILDKIT_SBOM_SCAN_STAGE=true
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
# Queries are checked against the committed .sqlx, so no database is needed. No path of this machine ends up in a binary.
ENV SQLX_OFFLINE=true \
    TENANTRY_COMMIT=${REVISION} \
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    CARGO_INCREMENTAL=0 \
    RUSTFLAGS="--remap-path-prefix=/src=/tenantry --remap-path-prefix=/usr/local/cargo=/cargo"
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package operator --package api-server --package kubectl-tenantry \
        --bin tenantry-operator --bin tenantry-api --bin kubectl-tenantry \
    && mkdir /out \
    && cp target/release/tenantry-operator target/release/tenantry-api target/release/kubectl-tenantry /out/

# What the images share: the roots that TLS trusts, and a user that is nobody.
FROM scratch AS base
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.source="https://github.com/tenantry/tenantry" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="Tenantry" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532

FROM base AS operator
LABEL org.opencontainers.image.title="tenantry-operator" \
      org.opencontainers.image.description="Turns Tenantry's kinds into the configuration that its API serves"
COPY --from=build /out/tenantry-operator /tenantry-operator
# What is free goes back to the kernel at once, not after a second: a tenth of the memory of ten thousand tenants.
ENV MIMALLOC_PURGE_DELAY=0
EXPOSE 8081
ENTRYPOINT ["/tenantry-operator"]
CMD ["run"]

# Needs nothing writable but /tmp and /var/cache/tenantry, which the operator mounts.
FROM base AS api
LABEL org.opencontainers.image.title="tenantry-api" \
      org.opencontainers.image.description="Payments and identity for many tenants over one REST API"
COPY --from=build /out/tenantry-api /tenantry-api
EXPOSE 8080 9090
ENTRYPOINT ["/tenantry-api"]
CMD ["serve"]

FROM base AS kubectl
LABEL org.opencontainers.image.title="kubectl-tenantry" \
      org.opencontainers.image.description="kubectl tenantry: status, explain, plan and rollouts"
COPY --from=build /out/kubectl-tenantry /kubectl-tenantry
ENTRYPOINT ["/kubectl-tenantry"]
