# A stand-in for the official image: Debian with the Rust whose folder is the context. It trusts whom this machine trusts.

FROM debian:bookworm-slim AS rust
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev
COPY bin /usr/local/bin
COPY lib /usr/local/lib
RUN --mount=type=secret,id=authorities cp /run/secrets/authorities /etc/ssl/certs/ca-certificates.crt
ENV CARGO_HOME=/usr/local/cargo
