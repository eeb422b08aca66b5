-- Who may query an account in SQL. The newest version of an analyst counts.
CREATE TABLE IF NOT EXISTS analysts
(
    account_id String,
    analyst_id String,
    name String,
    created_by String,
    token_sha256 String,
    created_at_ms Int64,
    expires_at_ms Int64,
    revoked_at_ms Int64
)
ENGINE = ReplacingMergeTree(revoked_at_ms)
ORDER BY (account_id, analyst_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
