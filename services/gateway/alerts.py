"""Alerts of an account through the public API: their rules and what was raised. A port; the usage
service is behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from services.common.security.tokens import Principal

AlertKind = Literal["balance_low", "spend_cap", "spend_rate", "error_rate"]
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When an account is told. The threshold is nano-dollars (`balance_low`), nano-dollars an hour
    (`spend_rate`) or thousandths of the requests (`error_rate`); 0 of caps, which have levels of
    their own.
    """

    kind: AlertKind
    threshold: int
    enabled: bool = True
    window_s: int = 300
    min_requests: int = 20


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """One alert; value and threshold in the unit of its rule, of a cap in thousandths of it."""

    alert_id: str
    event_type: str
    kind: str
    subject: str
    value: int
    threshold: int
    occurred_at_ms: int


class Alerts(Protocol):
    """The alerts of the principal's account.

    All raise Forbidden where the principal's role does not suffice, InvalidArgument that names the
    field, Unavailable.
    """

    async def rules(self, principal: Principal) -> list[AlertRule]:
        """One of each kind."""

    async def set_rule(self, principal: Principal, rule: AlertRule) -> AlertRule:
        """In place of the rule of that kind."""

    async def raised(self, principal: Principal, *, limit: int, before: str) -> list[RaisedAlert]:
        """Newest first; only those before this alert's id, where one is given."""
