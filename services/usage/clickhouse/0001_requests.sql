-- One row for each request of an authenticated caller. The sorting key is what a repeated delivery cannot change, so
-- that a usage id which was produced twice collapses to one row; of two, the one that came first in its partition
-- stays, as in the ledger.
CREATE TABLE IF NOT EXISTS requests
(
    account_id String,
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    usage_id String,
    request_id String,
    key_id String,
    user_id String,
    trace_id String,
    worker_id LowCardinality(String),
    event_id String,

    route LowCardinality(String),
    requested_model String,
    model_id LowCardinality(String),
    provider_id LowCardinality(String),
    upstream_model LowCardinality(String),
    stream Bool,

    outcome LowCardinality(String),
    http_status Int32,
    error_code LowCardinality(String),
    failure_stage LowCardinality(String),
    finish_reason LowCardinality(String),

    admitted_at Nullable(DateTime64(3, 'UTC')),
    first_token_ms Int64,
    latency_ms Int64,

    tokens_prompt Int64,
    tokens_cached_prompt Int64,
    tokens_cache_write Int64,
    tokens_completion Int64,
    tokens_reasoning Int64,
    tokens_audio_prompt Int64,
    tokens_audio_completion Int64,
    tokens_other Map(Int32, Int64),
    usage_basis LowCardinality(String),

    price_version_id LowCardinality(String),
    cost_nanousd Int64,
    grant_id String,
    held_nanousd Int64,

    session_id String,
    end_user_id String,
    tags Map(LowCardinality(String), String),

    attempts Nested
    (
        provider_id LowCardinality(String),
        upstream_model LowCardinality(String),
        http_status Int32,
        error_code LowCardinality(String),
        started_at_ms Int64,
        latency_ms Int64,
        served Bool
    ),

    log_topic LowCardinality(String),
    log_partition Int32,
    log_offset Int64,
    stored_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUInt64(log_offset),

    prompt_tokens Int64 ALIAS tokens_prompt + tokens_cached_prompt + tokens_cache_write + tokens_audio_prompt,
    completion_tokens Int64 ALIAS tokens_completion + tokens_reasoning + tokens_audio_completion,
    cost_usd Float64 ALIAS cost_nanousd / 1000000000,

    INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_usage usage_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_key key_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_end_user end_user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_partition log_partition TYPE set(16) GRANULARITY 1,
    INDEX by_offset log_offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(received_at)
ORDER BY (account_id, received_at, usage_id)
-- The window is 0 by default, which is off. Inserts reach the disk before they are acknowledged, because the position
-- in the log moves on then.
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
