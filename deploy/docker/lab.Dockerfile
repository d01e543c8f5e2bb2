# The lab's servers in a container, for compose.yaml's profile lab: OpenLDAP with one-time
# passwords, FreeRADIUS and a KDC. For trying Estuary out: their passwords are in this repository.
ARG BUILD_IMAGE=debian:bookworm-slim
FROM ${BUILD_IMAGE}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      slapd ldap-utils openssl freeradius freeradius-utils krb5-kdc krb5-admin-server krb5-user krb5-otp krb5-pkinit \
      oathtool util-linux >/dev/null && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY deploy/lab /lab
COPY deploy/docker/lab /usr/local/bin
LABEL estuary.stage=image
ENTRYPOINT ["/usr/local/bin/entrypoint"]
