-- The ledger's posted transactions, so that spend can be told from the journal beside the log and the two be compared.
-- A repeated delivery has the same key, as in `requests`.
CREATE TABLE IF NOT EXISTS ledger_transactions
(
    account_id String,
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    transaction_id String,
    sequence Int64,
    kind LowCardinality(String),
    idempotency_key String,
    booked_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    entries Nested
    (
        ledger_account LowCardinality(String),
        amount_nanousd Int64
    ),
    reason String,
    key_id String,
    grant_id String,
    usage_id String,
    request_id String,
    model_id LowCardinality(String),
    price_version_id LowCardinality(String),
    overrun Bool,
    corrects_transaction_id String,
    event_id String,

    log_topic LowCardinality(String),
    log_partition Int32,
    log_offset Int64,
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUInt64(log_offset),
    -- What the transaction changed the account's own wallet by.
    wallet_nanousd Int64 MATERIALIZED arraySum(
        arrayFilter((amount, name) -> name = concat('wallet:', account_id),
            entries.amount_nanousd, entries.ledger_account)),

    INDEX by_transaction transaction_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_usage usage_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_partition log_partition TYPE set(16) GRANULARITY 1,
    INDEX by_offset log_offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (account_id, occurred_at, transaction_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- What analysts read: each transaction once, and each of its entries once.
CREATE VIEW IF NOT EXISTS ledger_log AS
SELECT *, wallet_nanousd
FROM ledger_transactions FINAL;

CREATE VIEW IF NOT EXISTS ledger_entries AS
SELECT
    account_id, transaction_id, sequence, kind, occurred_at, booked_at,
    entry.1 AS ledger_account, entry.2 AS amount_nanousd,
    key_id, grant_id, usage_id, request_id, model_id, price_version_id, overrun, corrects_transaction_id, reason
FROM ledger_transactions FINAL
ARRAY JOIN arrayZip(entries.ledger_account, entries.amount_nanousd) AS entry;
