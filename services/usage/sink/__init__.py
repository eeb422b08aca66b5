"""From the log's partitions to durable rows, exactly once, and on to whoever tails the log."""
