-- Figures of whole days, so that a month of a large account is summed from thousands of rows and not from millions. A day
-- is derived from `requests` as a whole, again whenever rows have come since: nothing is added up as it arrives, so
-- nothing can be counted twice. Only rows of the roll that `rolled_days` names for their day count.
CREATE TABLE IF NOT EXISTS requests_daily
(
    account_id String,
    day Date,
    roll UInt64,
    key_id String,
    user_id String,
    model_id LowCardinality(String),
    provider_id LowCardinality(String),
    outcome LowCardinality(String),
    http_status Int32,
    error_code LowCardinality(String),
    failure_stage LowCardinality(String),
    requests Int64,
    prompt_tokens Int64,
    completion_tokens Int64,
    cost_nanousd Int64,
    latencies AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64),
    first_tokens AggregateFunction(quantilesTDigestIf(0.5, 0.95, 0.99), Int64, UInt8)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (account_id, day, model_id, key_id);

-- What a day's figures stand on: how many marks it had before they were derived.
CREATE TABLE IF NOT EXISTS rolled_days
(
    day Date,
    roll UInt64,
    marks UInt64,
    requests Int64,
    cost_nanousd Int64,
    rolled_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (day, roll);

-- A mark is written before and after rows of a past day are; as long as their number is what the figures stand on, the
-- figures hold.
CREATE TABLE IF NOT EXISTS day_marks
(
    day Date,
    marks UInt64
)
ENGINE = SummingMergeTree
ORDER BY day
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- A month that is over becomes one part, in which nothing is left to be merged by queries.
ALTER TABLE requests MODIFY SETTING min_age_to_force_merge_seconds = 7200, min_age_to_force_merge_on_partition_only = 1;
