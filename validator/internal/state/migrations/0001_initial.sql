-- Times are microseconds since 1970 UTC. A row of enrolment_token counts only with its MAC.
CREATE TABLE enrolment_token (
    id TEXT PRIMARY KEY,
    token_index BYTEA NOT NULL UNIQUE,
    hash_algorithm TEXT NOT NULL,
    hash BYTEA NOT NULL,
    client_id TEXT NOT NULL,
    max_uses BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL, -- 0: not revoked
    required_spki BYTEA NOT NULL, -- no octets: any key
    allowed_names TEXT NOT NULL, -- JSON array
    created_by TEXT NOT NULL,
    mac BYTEA NOT NULL
);
CREATE INDEX enrolment_token_made ON enrolment_token (created_at, id);
CREATE INDEX enrolment_token_of_client ON enrolment_token (client_id, created_at, id);

CREATE TABLE audit_head (
    id SMALLINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL
);
CREATE TABLE audit_record (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    record TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE
);
