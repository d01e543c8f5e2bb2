-- Where a certificate comes from. Rows from before have NULL in all six, and a MAC without them.
-- The subject key identifier of the authority that issues it, hexadecimal.
ALTER TABLE entry ADD COLUMN authority TEXT;
-- The serial number of the one that it renews, '' for a first one.
ALTER TABLE entry ADD COLUMN predecessor TEXT;
-- When the holder logged in for the first of the line, and by which indicators (RFC 8129), one a line.
ALTER TABLE entry ADD COLUMN login_at BIGINT;
ALTER TABLE entry ADD COLUMN login_indicators TEXT;
-- How often what it spends may be used, by the profile or the validator; 0 where nothing is spent.
ALTER TABLE entry ADD COLUMN use_limit BIGINT;
-- When the line ends; NULL for never.
ALTER TABLE entry ADD COLUMN line_until BIGINT;

CREATE INDEX entry_predecessor ON entry (predecessor) WHERE predecessor <> '';
