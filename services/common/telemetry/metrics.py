"""The floor's Prometheus metrics and how they are rendered; services add their own."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

GRPC_SECONDS = Histogram(
    "mesh_grpc_server_seconds", "Time of a call.", ["method", "status"], buckets=LATENCY_BUCKETS_S
)  # fmt: skip
PUMP_LAG = Gauge(
    "mesh_pump_lag_messages", "Messages not yet applied.", ["topic", "group", "partition"]
)
PUMP_APPLIED = Counter("mesh_pump_applied_messages", "Messages applied.", ["topic", "group"])
PUMP_RETRIES = Counter("mesh_pump_retries", "Batches tried again.", ["topic", "group"])
PUMP_REJOINS = Counter("mesh_pump_rejoins", "Times the group was joined anew.", ["topic", "group"])
TABLE_MESSAGES = Counter("mesh_table_messages", "Messages read from a compacted topic.", ["topic"])
TABLE_SKIPPED = Counter("mesh_table_skipped", "Messages that could not be decoded.", ["topic"])
OUTBOX_PUBLISHED = Counter("mesh_outbox_published", "Rows published.", ["topic"])
OUTBOX_ACTIVE = Gauge("mesh_outbox_active", "1 where this process is the publishing relay.")
OUTBOX_FAILURES = Counter("mesh_outbox_failures", "Failed rounds of the relay.")
PRODUCER_SENT = Counter("mesh_producer_sent", "Messages acknowledged by the log.", ["topic"])
PRODUCER_FAILED = Counter("mesh_producer_failed", "Messages not acknowledged.", ["topic"])
PRODUCER_CONNECTED = Gauge("mesh_producer_connected", "1 where the log can be reached.")
DEAD_LETTERS = Counter("mesh_dead_letters", "Messages put aside as undecodable.", ["consumer"])


def render() -> bytes:
    """All metrics of this process in the Prometheus text format."""
    return generate_latest(REGISTRY)
