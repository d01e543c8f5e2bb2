-- Passwords with a one-time code that were taken to a back end. Times are microseconds since
-- 1970 UTC. A row counts only with its MAC.
CREATE TABLE one_time (
    credential BYTEA PRIMARY KEY, -- keyed digest over realm, principal, password and code
    attempt BYTEA NOT NULL, -- whose claim it is
    binding BYTEA NOT NULL, -- SHA-256 of the public key it came with
    phase SMALLINT NOT NULL, -- 1 pending, 2 accepted, 3 unknown
    at BIGINT NOT NULL, -- when it was claimed; once accepted, when it was verified
    lease_until BIGINT NOT NULL, -- until when a pending one is being checked
    keep_until BIGINT NOT NULL,
    method INTEGER NOT NULL, -- how it was accepted; 0 before
    backend TEXT NOT NULL,
    indicators TEXT NOT NULL, -- JSON array
    mac BYTEA NOT NULL
);
CREATE INDEX one_time_until ON one_time (keep_until);

-- Failed logins by account, network and altogether. It authorises nothing.
CREATE TABLE login_failure (
    subject BYTEA PRIMARY KEY, -- keyed digest of who or where
    failures BIGINT NOT NULL,
    since BIGINT NOT NULL, -- the first of them
    last_at BIGINT NOT NULL, -- the last of them
    pending BIGINT NOT NULL, -- attempts on their way, each of which may become one
    pending_until BIGINT NOT NULL,
    keep_until BIGINT NOT NULL
);
CREATE INDEX login_failure_until ON login_failure (keep_until);
