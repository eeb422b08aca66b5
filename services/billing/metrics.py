"""Billing's own Prometheus metrics. Those that end in `alarms` should stay at zero for ever."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SETTLED = Counter("mesh_billing_settled_events", "Usage events booked.", ["priced"])
SETTLED_REPEATS = Counter("mesh_billing_settled_repeats", "Usage events seen again, unchanged.")
SETTLE_SECONDS = Histogram("mesh_billing_settle_batch_seconds", "Time of one settlement batch.")
OVERRUNS = Counter("mesh_billing_overruns", "Charges above what their grant had left.")
GRANTS_OPENED = Counter("mesh_billing_grants_opened", "Grants given.")
GRANTS_RENEWED = Counter("mesh_billing_grants_renewed", "Grants renewed, grown or shrunk.")
GRANTS_REFUSED = Counter("mesh_billing_grants_refused", "Grants refused.", ["limit", "held"])
GRANT_GROUP = Histogram(
    "mesh_billing_grant_group_size", "Grant calls written together.", buckets=(1, 4, 16, 64, 256)
)
GRANTS_EXPIRED = Counter("mesh_billing_grants_expired", "Grants that became unresolved.")
GRANTS_WRITTEN_OFF = Counter(
    "mesh_billing_grants_written_off", "Grants given up because nobody accounted for them."
)
GRANTS_UNRESOLVED = Gauge("mesh_billing_grants_unresolved", "Grants unresolved now.")
SEALS = Counter("mesh_billing_seals", "Hours of the ledger that were sealed.")
ALARMS = Counter(
    "mesh_billing_alarms",
    "Contradictions: usage_content, usage_cost, grant_unknown, grant_close, key_state, payment.",
    ["kind"],
)
PAYMENTS = Counter("mesh_billing_payments", "Changes of payments that were booked.", ["status"])
WEBHOOKS = Counter("mesh_billing_webhooks", "Notices of the payment gateway.", ["outcome"])
PAYMENT_FINDINGS = Gauge(
    "mesh_billing_payment_findings", "Differences to the payment gateway at the last comparison."
)
QUOTA_LEASES = Counter("mesh_billing_quota_leases", "Leases of requests and tokens given.")
QUOTA_REFUSED = Counter(
    "mesh_billing_quota_refused", "Leases of requests and tokens refused.", ["limit", "held"]
)
