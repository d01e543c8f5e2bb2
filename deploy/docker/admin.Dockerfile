# The image of the admin: the binary, the machine's trusted CAs, and empty folders for volumes.
# The first stage is the same in all four files, so that it runs once.
ARG BUILD_IMAGE=golang:1.26-bookworm
FROM ${BUILD_IMAGE} AS build
LABEL estuary.stage=build
WORKDIR /src
COPY . .
RUN scripts/build /out && scripts/image-folders /out/folders

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/folders /var/lib/estuary
COPY --from=build /out/admin /admin
USER 65532:65532
LABEL estuary.stage=image \
      org.opencontainers.image.title="Estuary admin" \
      org.opencontainers.image.description="The admin of Estuary: it serves the API of operators" \
      org.opencontainers.image.licenses="Apache-2.0"
HEALTHCHECK --interval=2s --timeout=2s --start-period=30s --retries=3 CMD ["/admin", "health", "--config", "/etc/estuary/admin.toml"]
ENTRYPOINT ["/admin"]
CMD ["--config", "/etc/estuary/admin.toml"]
