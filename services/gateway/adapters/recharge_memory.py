"""Automatic recharge in memory, for tests and single-process demonstrations. No card is saved."""

from __future__ import annotations

from services.common.errors import Forbidden, InvalidArgument
from services.common.security.tokens import Principal
from services.gateway.adapters.key_admin_memory import require_role
from services.gateway.recharge import Recharge, RechargeSettings

_CENT = 10_000_000
_USD = 1_000_000_000
_OFF = Recharge(RechargeSettings(enabled=False), "off")


class MemoryRecharges:
    """`Recharges` over a dictionary; tests put into `by_account` where a recharge stands."""

    def __init__(self) -> None:
        self.by_account: dict[str, Recharge] = {}

    async def recharge(self, principal: Principal) -> Recharge:
        if not principal.account_id:
            raise Forbidden("the principal acts for no account")
        return self.by_account.get(principal.account_id, _OFF)

    async def set_up(self, principal: Principal, wanted: RechargeSettings) -> Recharge:
        require_role(principal, "admin")
        if wanted.enabled:
            _check(wanted)
        state = "no_card" if wanted.enabled else "off"
        self.by_account[principal.account_id] = Recharge(wanted, state)
        return self.by_account[principal.account_id]


def _check(wanted: RechargeSettings) -> None:
    bounds = {
        "amount_nanousd": (wanted.amount_nanousd, 5 * _USD, 100 * _USD),
        "threshold_nanousd": (wanted.threshold_nanousd, _CENT, 1_000 * _USD),
        "day_max_nanousd": (wanted.day_max_nanousd, wanted.amount_nanousd, 10**15),
        "month_max_nanousd": (wanted.month_max_nanousd, wanted.day_max_nanousd, 10**16),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            between = f"from ${least / _USD:.2f} to ${most / _USD:.2f}"
            raise InvalidArgument.of(name, f"must be {between}")
        if value % _CENT:
            raise InvalidArgument.of(name, "must be whole cents")
