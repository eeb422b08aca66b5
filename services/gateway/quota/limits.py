"""The bounds of quotas, each a setting of the gateway (`MESH_GATEWAY_...`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """Seconds, unless the name says otherwise."""

    # How long a request waits for quota that other workers hold before it is refused.
    place_deadline_s: float = 2.0
    # A lease that nothing was taken from for this long goes back.
    idle_s: float = 0.5
    sweep_every_s: float = 0.25
    # For how many seconds of the key's recent traffic a lease is asked.
    horizon_s: float = 3.0
    # Over how long recent traffic is averaged.
    rate_window_s: float = 10.0
    # For how long a limit that is used up is refused without asking again.
    gone_s: float = 1.0
    rpc_timeout_s: float = 2.0
    backoff_first_s: float = 0.02
    backoff_max_s: float = 2.0
    # Between two questions while others hold the quota.
    held_retry_min_s: float = 0.02
    held_retry_max_s: float = 0.25
    # Requests waiting for one key's quota; more are refused.
    waiters_max: int = 4096
    returns_at_once: int = 16
