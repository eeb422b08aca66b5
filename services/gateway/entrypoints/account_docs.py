"""What the description of the API says of balances and limits."""

from __future__ import annotations

from typing import Any

from services.gateway.entrypoints.dialect_docs import Open


class Balance(Open):
    """The wallet of the caller's account, as decimal strings of US dollars."""

    balance_usd: str
    reserved_usd: str
    available_usd: str
    reserved_breakdown: dict[str, str]
    updated_at: str | None
    message: str | None


class Meter(Open):
    """One limit and how far it is used up."""

    current: int
    limit: int
    pct: float
    resets_in_seconds: int
    is_default_limit: bool


class RateLimits(Open):
    """The limits of the key that asks; null where it has none of that kind."""

    as_of: str
    key: dict[str, Meter | None]


BALANCE: dict[str, Any] = {  # Any: JSON
    "balance_usd": "12.50",
    "reserved_usd": "0.25",
    "available_usd": "12.25",
    "reserved_breakdown": {"requests": "0.25"},
    "updated_at": "2026-09-01T12:00:00.000+00:00",
    "message": None,
}
