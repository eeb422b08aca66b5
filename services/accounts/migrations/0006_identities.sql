-- The person at the log-in provider, for those who come that way.

ALTER TABLE users ADD COLUMN issuer text NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN subject text NOT NULL DEFAULT '';
ALTER TABLE users ALTER COLUMN issuer DROP DEFAULT;
ALTER TABLE users ALTER COLUMN subject DROP DEFAULT;
CREATE UNIQUE INDEX users_identity_unique ON users (issuer, subject) WHERE subject <> '';
