"""Alerts in memory, for tests and single-process demonstrations."""

from __future__ import annotations

from services.common.errors import InvalidArgument
from services.common.security.tokens import Principal
from services.gateway.adapters.key_admin_memory import require_role
from services.gateway.alerts import ALERT_KINDS, AlertRule, RaisedAlert

_USD = 1_000_000_000
DEFAULT_RULES: tuple[AlertRule, ...] = (
    AlertRule("balance_low", 2 * _USD),
    AlertRule("spend_cap", 0),
    AlertRule("spend_rate", 100 * _USD),
    AlertRule("error_rate", 250),
)


class MemoryAlerts:
    """`Alerts` over dictionaries; tests put into `raised_by_account` what was raised."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, AlertRule]] = {}
        # Oldest first.
        self.raised_by_account: dict[str, list[RaisedAlert]] = {}

    async def rules(self, principal: Principal) -> list[AlertRule]:
        require_role(principal, "viewer")
        own = self._rules.get(principal.account_id, {})
        return [own.get(rule.kind, rule) for rule in DEFAULT_RULES]

    async def set_rule(self, principal: Principal, rule: AlertRule) -> AlertRule:
        require_role(principal, "admin")
        if rule.kind not in ALERT_KINDS:
            raise InvalidArgument.of("kind", f"is one of {', '.join(ALERT_KINDS)}")
        highest = 1_000 if rule.kind == "error_rate" else 10**18
        if rule.kind != "spend_cap" and not 0 < rule.threshold <= highest:
            raise InvalidArgument.of("threshold", f"is between 1 and {highest:,}")
        if not 60 <= rule.window_s <= 1_800 or rule.window_s % 60:
            raise InvalidArgument.of("window_s", "is 60 to 1,800, in whole minutes")
        if not 1 <= rule.min_requests <= 1_000_000:
            raise InvalidArgument.of("min_requests", "is between 1 and 1,000,000")
        self._rules.setdefault(principal.account_id, {})[rule.kind] = rule
        return rule

    async def raised(self, principal: Principal, *, limit: int, before: str) -> list[RaisedAlert]:
        require_role(principal, "viewer")
        newest_first = self.raised_by_account.get(principal.account_id, [])[::-1]
        return [one for one in newest_first if not before or one.alert_id < before][:limit]
