# `bitnet serve` as one static program in an empty image.
#
#   docker build -t bitnet .
#   docker run -p 8080:8080 -e BITNET_API_KEY=… -v models:/models:ro bitnet -m /models/model.gguf
#
# Without -m it serves the demo model. Models by name (-m 2b4t) are downloaded into /cache, which then is a volume.

FROM docker.io/library/rust:1.95-alpine AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package bitnet-cli \
    && mkdir -p /image/cache \
    && cp target/release/bitnet /image/bitnet

FROM scratch
COPY --from=build --chown=65532:65532 /image /
USER 65532:65532
ENV XDG_CACHE_HOME=/cache
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/bitnet", "serve", "--check"]
# All addresses, since the container is a machine of its own. Without BITNET_API_KEY everybody who reaches the port may ask.
ENTRYPOINT ["/bitnet", "serve", "--host", "0.0.0.0"]
