-- Whether the rows of a batch were seen to be all there. Once they were, rows that are missing later were dropped by
-- retention or collapsed into one, and nobody need ask the event log, which may have let them go too.
ALTER TABLE sink_batches ADD COLUMN IF NOT EXISTS is_complete Bool DEFAULT false AFTER epoch;
