"""The bounds of the budget, each a setting of the gateway (`MESH_GATEWAY_...`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Seconds, unless the name says otherwise."""

    # How long a request waits for money before it is refused.
    place_deadline_s: float = 2.0
    # A grant without a hold for this long goes back to billing.
    idle_s: float = 5.0
    # New holds are placed only within this part of a grant's life, so that a renewal that fails
    # leaves them time to end inside it.
    usable_fraction: float = 2 / 3
    # A grant that requests still hold money in is renewed from this part of its life on.
    renew_fraction: float = 0.5
    # How often a worker that has money free asks whether others want it.
    recall_every_s: float = 0.5
    # For how many seconds of the key's recent spend a grant is asked.
    horizon_s: float = 3.0
    # Over how long recent spend is averaged.
    spend_window_s: float = 10.0
    sweep_every_s: float = 1.0
    rpc_timeout_s: float = 2.0
    backoff_first_s: float = 0.02
    backoff_max_s: float = 2.0
    # Between two questions while the money is held by others.
    held_retry_min_s: float = 0.02
    held_retry_max_s: float = 0.25
    # Requests waiting for one key's money; more are refused.
    waiters_max: int = 4096
    closes_at_once: int = 16
