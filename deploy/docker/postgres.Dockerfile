# PostgreSQL from Debian, for tests where the image of compose.yaml cannot be pulled: of its
# interface it has what compose.yaml uses.
ARG BUILD_IMAGE=debian:bookworm
FROM ${BUILD_IMAGE}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null && \
    useradd -M -u 65532 estuary && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15 && mkdir -p /var/lib/postgresql/data /var/run/postgresql && \
    chmod 1777 /var/lib/postgresql/data /var/run/postgresql
COPY deploy/docker/postgres/entrypoint /usr/local/bin/entrypoint
ENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin PGDATA=/var/lib/postgresql/data/pgdata
LABEL estuary.stage=image
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["postgres"]
