-- Each comparison of the log with the ledger, and each account's hour in which they did not agree. An hour that agrees
-- again has a newer row that says so; nothing is taken back.
CREATE TABLE IF NOT EXISTS ledger_comparisons
(
    compared_at DateTime64(3, 'UTC'),
    since DateTime64(3, 'UTC'),
    until DateTime64(3, 'UTC'),
    hours Int64,
    requests Int64,
    cost_nanousd Int64,
    differences Int64
)
ENGINE = MergeTree
ORDER BY compared_at;

CREATE TABLE IF NOT EXISTS ledger_differences
(
    account_id String,
    hour DateTime('UTC'),
    log_requests Int64,
    log_cost_nanousd Int64,
    ledger_requests Int64,
    ledger_cost_nanousd Int64,
    only_in_log Array(String),
    only_in_ledger Array(String),
    cost_differs Array(String),
    is_open Bool,
    found_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(found_at)
ORDER BY (account_id, hour);
