-- Requests and tokens of keys' limits. Not money and not folded from events: counters of windows that are forgotten
-- when these are over (docs/decisions/0010-quotas-are-leases-beside-grants.md).

CREATE TABLE quota_key (
    account_id text    NOT NULL,
    key_id     text    NOT NULL,
    version    bigint  NOT NULL,
    active     boolean NOT NULL,
    rpm_limit  bigint  CHECK (rpm_limit >= 0),
    rpd_limit  bigint  CHECK (rpd_limit >= 0),
    tpm_limit  bigint  CHECK (tpm_limit >= 0),
    PRIMARY KEY (account_id, key_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE quota_key IS 'The limits of mesh.keys.v1. Its rows are what every writer of quotas locks first.';

CREATE TABLE quota_window (
    account_id   text   NOT NULL,
    key_id       text   NOT NULL,
    kind         text   NOT NULL CHECK (kind IN ('minute', 'day')),
    starts_at_ms bigint NOT NULL,
    ends_at_ms   bigint NOT NULL,
    requests     bigint NOT NULL CHECK (requests >= 0),
    tokens       bigint NOT NULL CHECK (tokens >= 0),
    PRIMARY KEY (account_id, key_id, kind, starts_at_ms)
) WITH (fillfactor = 50);
CREATE INDEX quota_window_ends ON quota_window (ends_at_ms);

CREATE TABLE quota_lease (
    lease_id        text   PRIMARY KEY,
    account_id      text   NOT NULL,
    key_id          text   NOT NULL,
    worker_id       text   NOT NULL,
    requests        bigint CHECK (requests >= 0),
    tokens          bigint CHECK (tokens >= 0),
    drawn_at_ms     bigint NOT NULL,
    usable_until_ms bigint NOT NULL,
    content_hash    bytea  NOT NULL,
    used_requests   bigint NOT NULL CHECK (used_requests >= 0),
    used_tokens     bigint NOT NULL CHECK (used_tokens >= 0),
    revision        bigint NOT NULL CHECK (revision >= 0)
) WITH (fillfactor = 70);
CREATE INDEX quota_lease_open ON quota_lease (account_id, key_id) WHERE revision = 0;
CREATE INDEX quota_lease_drawn ON quota_lease (drawn_at_ms) WHERE revision > 0;
CREATE INDEX quota_lease_lost ON quota_lease (drawn_at_ms) WHERE revision = 0;
COMMENT ON COLUMN quota_lease.revision IS '0 until its worker returned it.';

-- Keys that were read before there was a place for their limits are read once more; what is known of them stays.
UPDATE consumer_cursor SET next_offset = 0 WHERE topic = 'mesh.keys.v1';
