"""Automatic recharge of the balance through the public API. A port; billing is behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from services.common.security.tokens import Principal


@dataclass(frozen=True, slots=True)
class RechargeSettings:
    """Below the threshold the amount is charged, at most so much in a UTC day and month; all in
    nano-dollars, whole cents.
    """

    enabled: bool
    threshold_nanousd: int = 0
    amount_nanousd: int = 0
    day_max_nanousd: int = 0
    month_max_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class RechargeCharge:
    """One charge of the card; the moment in Unix milliseconds."""

    charge_id: str
    amount_nanousd: int
    status: str
    started_at_ms: int
    failure_code: str


@dataclass(frozen=True, slots=True)
class Recharge:
    """The settings, where the recharge stands, until when that lasts (0: not by time), the card,
    why it was switched off, and the newest charges.
    """

    settings: RechargeSettings
    state: str
    until_ms: int = 0
    card: str = ""
    switched_off_because: str = ""
    charges: list[RechargeCharge] = field(default_factory=list)


class Recharges(Protocol):
    """The recharge of the principal's account; there is one of each.

    Both raise Forbidden where the principal may not, Unavailable.
    """

    async def recharge(self, principal: Principal) -> Recharge:
        """As it is now."""

    async def set_up(self, principal: Principal, wanted: RechargeSettings) -> Recharge:
        """In place of the settings before. Raises InvalidArgument that names the field."""
