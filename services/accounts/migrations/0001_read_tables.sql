-- Read tables: folded from the events, dropped and folded again by a rebuild. Beside them the two tables of secrets,
-- which are in no event and which a rebuild therefore leaves alone.

CREATE TABLE users (
    user_id       text   PRIMARY KEY,
    email         text   NOT NULL CONSTRAINT users_email_unique UNIQUE CHECK (email = lower(email)),
    name          text   NOT NULL,
    created_at_ms bigint NOT NULL,
    version       bigint NOT NULL
);

CREATE TABLE accounts (
    account_id         text    PRIMARY KEY,
    name               text    NOT NULL,
    owner_user_id      text    NOT NULL,
    created_at_ms      bigint  NOT NULL,
    suspended          boolean NOT NULL,
    suspension_changes bigint  NOT NULL,
    version            bigint  NOT NULL
);

CREATE TABLE members (
    account_id  text     NOT NULL,
    user_id     text     NOT NULL,
    role        smallint NOT NULL CHECK (role BETWEEN 1 AND 4),
    added_at_ms bigint   NOT NULL,
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id, added_at_ms);

CREATE TABLE sessions (
    session_id    text   PRIMARY KEY,
    user_id       text   NOT NULL,
    account_id    text   NOT NULL,
    user_agent    text   NOT NULL,
    started_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    ended_at_ms   bigint NOT NULL,
    version       bigint NOT NULL
);
CREATE INDEX sessions_going_on ON sessions (user_id) WHERE ended_at_ms = 0;

CREATE TABLE api_keys (
    key_id        text    PRIMARY KEY,
    account_id    text    NOT NULL,
    created_by    text    NOT NULL,
    key_hash      text    NOT NULL UNIQUE,
    masked_key    text    NOT NULL,
    settings      jsonb   NOT NULL,
    retiring      jsonb   NOT NULL,
    suspended     boolean NOT NULL,
    created_at_ms bigint  NOT NULL,
    updated_at_ms bigint  NOT NULL,
    version       bigint  NOT NULL
);
COMMENT ON COLUMN api_keys.retiring IS 'Older hashes in their grace: [[hash, Unix milliseconds of its end], ...].';
CREATE INDEX api_keys_of_account ON api_keys (account_id, key_id);

CREATE TABLE audit_events (
    event_id       text   PRIMARY KEY,
    position       bigint NOT NULL,
    account_id     text   NOT NULL,
    type           text   NOT NULL,
    actor          text   NOT NULL,
    subject        text   NOT NULL,
    occurred_at_ms bigint NOT NULL,
    details        jsonb  NOT NULL
);
COMMENT ON COLUMN audit_events.position IS 'The global position of the event: the order of the trail.';
CREATE INDEX audit_events_newest ON audit_events (account_id, position DESC);

CREATE TABLE user_passwords (
    user_id       text PRIMARY KEY,
    password_hash text NOT NULL
);
COMMENT ON TABLE user_passwords IS 'Argon2id hashes: a secret, no read table.';

CREATE TABLE session_tokens (
    session_id text PRIMARY KEY,
    token_hash text NOT NULL UNIQUE
);
COMMENT ON TABLE session_tokens IS 'SHA-256 of session tokens: a secret, no read table.';
