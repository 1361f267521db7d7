# All of Footfall in one image; the command says which part runs.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY bin bin
COPY shared shared
COPY migrations migrations
# The caches are not part of a layer, so the programs are copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked \
    && mkdir /out \
    && cp target/dist/footfall target/dist/footfall-ingest \
          target/dist/footfall-flusher target/dist/footfall-dashboard /out/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /usr/local/bin/
RUN install -d -o 65534 -g 65534 /var/lib/footfall/journal
USER 65534:65534
CMD ["footfall", "--help"]
