-- Where the chain of hourly seals stands: one row, the fold of the stream `seals`.

CREATE TABLE seal_chain (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    sequence      bigint NOT NULL DEFAULT 0,
    hour_start_ms bigint NOT NULL DEFAULT 0,
    hash          bytea  NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    log_hash      bytea  NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    CONSTRAINT seal_chain_hashes CHECK (length(hash) = 32 AND length(log_hash) = 32)
);
INSERT INTO seal_chain DEFAULT VALUES;
COMMENT ON COLUMN seal_chain.sequence IS 'Version of the last event of the stream seals; 0 before the first.';
COMMENT ON COLUMN seal_chain.log_hash IS 'SHA-256 chained over every byte of every event of the stream.';

-- Events lie nearly in the order of time, so this costs next to nothing: for the figures of one hour, and for a
-- transaction by the moment that its id bears.
CREATE INDEX events_time ON events USING brin (occurred_at_ms) WITH (pages_per_range = 16, autosummarize = on);

ALTER TABLE grants DROP CONSTRAINT grants_status_check;
ALTER TABLE grants ADD CONSTRAINT grants_status_check
    CHECK (status IN ('open', 'closed', 'unresolved', 'resolved', 'written_off'));
