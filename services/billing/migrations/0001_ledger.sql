-- The read tables of the ledger: folds of the events of the streams `wallet:<account>`, and made again from them by
-- `rebuild.py`. Only `usage_mark` is a record of its own: it also knows the usage that cost nothing.

CREATE TABLE wallet (
    account_id      text   PRIMARY KEY,
    posted_nanousd  bigint NOT NULL DEFAULT 0,
    granted_nanousd bigint NOT NULL DEFAULT 0,
    closing_nanousd bigint NOT NULL DEFAULT 0,
    version         bigint NOT NULL DEFAULT 0,
    sequence        bigint NOT NULL DEFAULT 0,
    hash            bytea  NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    log_hash        bytea  NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    updated_at_ms   bigint NOT NULL DEFAULT 0,
    CONSTRAINT wallet_held CHECK (granted_nanousd >= closing_nanousd AND closing_nanousd >= 0),
    CONSTRAINT wallet_hashes CHECK (length(hash) = 32 AND length(log_hash) = 32)
) WITH (fillfactor = 70);
COMMENT ON COLUMN wallet.closing_nanousd IS 'The part of granted under closed grants: spent, not settled yet.';
COMMENT ON COLUMN wallet.version IS 'Version of the last event of the stream wallet:<account_id>.';
COMMENT ON COLUMN wallet.log_hash IS 'SHA-256 chained over every byte of every event of the stream.';

CREATE TABLE ledger_total (
    account_id      text   NOT NULL,
    ledger_account  text   NOT NULL,
    balance_nanousd bigint NOT NULL,
    PRIMARY KEY (account_id, ledger_account)
) WITH (fillfactor = 70);
COMMENT ON TABLE ledger_total IS 'What each account''s transactions add up to, by ledger account; sums to zero.';

CREATE TABLE grants (
    grant_id         text   PRIMARY KEY,
    account_id       text   NOT NULL,
    key_id           text   NOT NULL,
    worker_id        text   NOT NULL,
    amount_nanousd   bigint NOT NULL CHECK (amount_nanousd > 0),
    opened_at_ms     bigint NOT NULL,
    expires_at_ms    bigint NOT NULL,
    request_hash     bytea  NOT NULL,
    settled_nanousd  bigint NOT NULL CHECK (settled_nanousd >= 0),
    spent_nanousd    bigint CHECK (spent_nanousd >= 0),
    returned_nanousd bigint NOT NULL CHECK (returned_nanousd BETWEEN 0 AND amount_nanousd),
    status           text   NOT NULL CHECK (status IN ('open', 'closed', 'unresolved', 'resolved'))
) WITH (fillfactor = 70);
CREATE INDEX grants_open ON grants (expires_at_ms) WHERE status = 'open';
CREATE INDEX grants_unresolved ON grants (account_id, grant_id) WHERE status IN ('open', 'unresolved');

CREATE TABLE key_account (
    account_id        text    NOT NULL,
    key_id            text    NOT NULL,
    spend_cap_nanousd bigint CHECK (spend_cap_nanousd >= 0),
    cap_window        integer NOT NULL CHECK (cap_window BETWEEN 1 AND 5),
    version           bigint  NOT NULL,
    active            boolean NOT NULL,
    spent_nanousd     bigint  NOT NULL,
    granted_nanousd   bigint  NOT NULL,
    closing_nanousd   bigint  NOT NULL,
    PRIMARY KEY (account_id, key_id),
    CONSTRAINT key_account_held CHECK (granted_nanousd >= closing_nanousd AND closing_nanousd >= 0)
) WITH (fillfactor = 70);

CREATE TABLE key_day (
    account_id    text   NOT NULL,
    key_id        text   NOT NULL,
    day           bigint NOT NULL,
    spent_nanousd bigint NOT NULL,
    PRIMARY KEY (account_id, key_id, day)
) WITH (fillfactor = 70);
COMMENT ON COLUMN key_day.day IS 'UTC day of admission, counted from 1970-01-01.';

CREATE TABLE journal_key (
    account_id      text   NOT NULL,
    idempotency_key text   NOT NULL,
    stream_version  bigint NOT NULL,
    PRIMARY KEY (account_id, idempotency_key)
);
COMMENT ON TABLE journal_key IS 'Where a transaction that is not of usage stands; of usage, usage_mark has the id.';

CREATE TABLE usage_mark (
    usage_id     text  PRIMARY KEY,
    content_hash bytea NOT NULL
);
COMMENT ON TABLE usage_mark IS 'Every usage id that was taken, with SHA-256 over the event as it was sent.';

-- Transactions are listed straight from the events.
CREATE INDEX events_transactions ON events (stream_id, stream_version) WHERE type = 'billing.TransactionPosted';
