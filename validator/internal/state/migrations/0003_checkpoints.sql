-- The signatures over the audit chain, and the MACs of its records.
ALTER TABLE audit_record ADD COLUMN mac BYTEA;
CREATE TABLE audit_checkpoint (
    seq BIGINT PRIMARY KEY,
    previous BIGINT NOT NULL UNIQUE,
    hash BYTEA NOT NULL,
    at BIGINT NOT NULL,
    signature BYTEA NOT NULL
);

