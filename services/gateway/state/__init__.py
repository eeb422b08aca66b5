"""What the worker knows: keys, models and providers from the compacted topics, in memory."""
