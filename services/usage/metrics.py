"""What the usage service measures beside the floor's own metrics."""

from prometheus_client import Counter, Gauge

LEDGER_COMPARED = Counter(
    "mesh_usage_ledger_compared_requests", "Logged requests that were compared with the ledger."
)
LEDGER_DIFFERENCES = Gauge(
    "mesh_usage_ledger_differences",
    "Account hours in which the log and the ledger do not agree now; anything but 0 is an alarm.",
)
CONTENTS_UNREADABLE = Counter(
    "mesh_usage_contents_unreadable", "Messages of prompts and answers that could not be decoded."
)
PARTITIONS_DROPPED = Counter(
    "mesh_usage_partitions_dropped", "Months or days of a table dropped by retention.", ["table"]
)
SINK_LOST = Gauge(
    "mesh_usage_sink_lost_messages",
    "Messages that the sink had not read and the log no longer has; anything but 0 is an alarm.",
    ["topic", "partition"],
)
