-- Run once, when the database of compose.yaml's profile postgres is made. Who connects proves
-- itself by its mesh certificate (pg_hba.conf, pg_ident.conf): there is no password.
CREATE ROLE estuary_signer LOGIN;
CREATE DATABASE estuary_signer OWNER estuary_signer;
REVOKE CONNECT ON DATABASE estuary_signer FROM PUBLIC;
CREATE ROLE estuary_validator LOGIN;
CREATE DATABASE estuary_validator OWNER estuary_validator;
REVOKE CONNECT ON DATABASE estuary_validator FROM PUBLIC;
