"""What of the money shows in Prometheus: the journal's size, flushes and lag, grants and holds."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

JOURNAL_BYTES = Gauge("mesh_gateway_journal_bytes", "Size of the write-ahead file.")
JOURNAL_OPEN = Gauge("mesh_gateway_journal_open", "Requests admitted and not ended yet.")
JOURNAL_OLDEST_SECONDS = Gauge(
    "mesh_gateway_journal_oldest_seconds",
    "Since when a request has been admitted and not ended; 0: all have. For every hour before,"
    " admitted - settled - released is zero.",
)
JOURNAL_FLUSH_SECONDS = Histogram(
    "mesh_gateway_journal_flush_seconds",
    "Time of one flush of the write-ahead file.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
JOURNAL_FAILURES = Counter("mesh_gateway_journal_failures", "Events that could not be written.")
EVENTS_DELIVERED = Counter("mesh_gateway_events_delivered", "Usage events that Kafka has taken.")
EVENTS_RETRIED = Counter("mesh_gateway_events_retried", "Batches of events sent again.")
GRANTS_OPEN = Gauge("mesh_gateway_grants_open", "Grants in the purse.")
GRANTS_RETURNING = Gauge("mesh_gateway_grants_returning", "Grants billing has not taken back yet.")
HOLDS = Gauge("mesh_gateway_holds", "Requests that hold money.")
