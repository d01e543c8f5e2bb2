-- Text for SQLite and PostgreSQL alike. Times are microseconds since 1970, UTC.

-- What was promised and what was signed, one row a serial number. Every column but mac is
-- covered by mac.
CREATE TABLE entry (
  seq BIGINT NOT NULL PRIMARY KEY,
  serial TEXT NOT NULL UNIQUE,
  state SMALLINT NOT NULL,
  assertion_id BYTEA NOT NULL UNIQUE,
  request_key BYTEA NOT NULL,
  spend_key BYTEA,
  keep_until BIGINT NOT NULL,
  sealed BYTEA NOT NULL,
  csr BYTEA NOT NULL,
  tbs BYTEA NOT NULL,
  certificate BYTEA,
  owner TEXT NOT NULL,
  lease_until BIGINT NOT NULL,
  label TEXT NOT NULL,
  realm TEXT NOT NULL,
  principal TEXT NOT NULL,
  subject TEXT NOT NULL,
  validator_key TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  not_before BIGINT NOT NULL,
  not_after BIGINT NOT NULL,
  revoked_at BIGINT,
  revocation_reason SMALLINT,
  mac BYTEA NOT NULL
);

CREATE INDEX entry_request ON entry (request_key, seq);
CREATE INDEX entry_revoked ON entry (revoked_at) WHERE revoked_at IS NOT NULL;

-- How often a credential has been used. Kept at least until keep_until.
CREATE TABLE spend (
  id BYTEA NOT NULL PRIMARY KEY,
  used BIGINT NOT NULL,
  use_limit BIGINT NOT NULL,
  keep_until BIGINT NOT NULL
);

-- A row here is locked by whoever decides on a request, so that two transactions do not
-- decide on the same one at once. The first two octets of the request key choose the row:
-- the table stays small.
CREATE TABLE stripe (
  id INTEGER NOT NULL PRIMARY KEY,
  taken BIGINT NOT NULL
);

-- Numbers that only grow: 'entry' is the last seq, 'crl' the last CRL number.
CREATE TABLE counter (
  name TEXT NOT NULL PRIMARY KEY,
  value BIGINT NOT NULL
);

-- The audit chain.
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
