-- The bounds of the newest batch of each partition, written before its rows are. An older batch is complete as soon as
-- a newer one is recorded, so only the newest is kept.
CREATE TABLE IF NOT EXISTS sink_batches
(
    topic LowCardinality(String),
    partition Int32,
    first_offset Int64,
    last_offset Int64,
    row_count Int64,
    epoch Int64,
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(last_offset)
ORDER BY (topic, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Who may write a partition: the claim with the highest epoch.
CREATE TABLE IF NOT EXISTS sink_claims
(
    topic LowCardinality(String),
    partition Int32,
    epoch Int64,
    claimed_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(epoch)
ORDER BY (topic, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
