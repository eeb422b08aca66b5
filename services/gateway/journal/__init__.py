"""The write-ahead file: every request once, on disk before its answer ends, then in Kafka."""
