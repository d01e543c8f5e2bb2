-- The MAC over id and used; a count without one is not believed.
ALTER TABLE spend ADD COLUMN mac BYTEA;

-- Certificates issued in an hour since 1970, for each budget.
CREATE TABLE budget (
  name TEXT NOT NULL,
  hour BIGINT NOT NULL,
  used BIGINT NOT NULL,
  PRIMARY KEY (name, hour)
);

-- The intents that nobody has ended: state 1.
CREATE INDEX entry_open ON entry (lease_until) WHERE state = 1;

CREATE INDEX spend_keep ON spend (keep_until);

-- Whether a credential without a count has been used.
CREATE INDEX entry_spend ON entry (spend_key, keep_until) WHERE spend_key IS NOT NULL;
