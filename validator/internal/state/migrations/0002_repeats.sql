-- A credential that was found good for a public key, so that the same attempt made again is
-- recognised. Times are microseconds since 1970 UTC. A row counts only with its MAC.
CREATE TABLE credential_check (
    credential BYTEA NOT NULL, -- digest of what was checked
    spki BYTEA NOT NULL, -- SHA-256 of the public key it came with
    accepted_at BIGINT NOT NULL,
    keep_until BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    PRIMARY KEY (credential, spki)
);
CREATE INDEX credential_check_until ON credential_check (keep_until);
