-- Prompts and answers, where operator and key want them stored: apart from the log, and kept for a time of their own, so
-- a partition is a day. The index of words is made when the store is opened, by what the engine knows.
CREATE TABLE IF NOT EXISTS request_contents
(
    account_id String,
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    usage_id String,
    request_id String,
    key_id String,
    model_id LowCardinality(String),
    prompt String CODEC(ZSTD(3)),
    answer String CODEC(ZSTD(3)),
    prompt_truncated Bool,
    answer_truncated Bool,
    event_id String,

    log_topic LowCardinality(String),
    log_partition Int32,
    log_offset Int64,
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUInt64(log_offset),

    INDEX by_usage usage_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_partition log_partition TYPE set(16) GRANULARITY 1,
    INDEX by_offset log_offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMMDD(received_at)
ORDER BY (account_id, received_at, usage_id)
-- Small granules, because a row is large. What was erased leaves the disk within a minute.
SETTINGS index_granularity = 256, non_replicated_deduplication_window = 10000, fsync_after_insert = 1,
    fsync_part_directory = 1, old_parts_lifetime = 60;

-- What an account has erased: nothing of a request received until then is stored or shown.
CREATE TABLE IF NOT EXISTS content_erasures
(
    account_id String,
    erased_until DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(erased_until)
ORDER BY account_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
