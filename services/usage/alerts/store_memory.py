"""The alert store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.common.ids import new_id
from services.usage.alerts.ports import Delivery, Endpoint
from services.usage.domain.alerts import Alert, AlertKind, AlertRule, AlertState


class MemoryAlertStore:
    """An AlertStore for tests and simulations."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[AlertKind, AlertRule]] = {}
        self._states: dict[tuple[str, str, str], AlertState] = {}
        self._alerts: dict[str, Alert] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._deliveries: dict[str, Delivery] = {}

    async def rules(self) -> dict[str, dict[AlertKind, AlertRule]]:
        return {account_id: dict(rules) for account_id, rules in self._rules.items()}

    async def save_rule(self, account_id: str, rule: AlertRule, *, by: str, now_ms: int) -> None:
        del by, now_ms  # for people who look into the database
        self._rules.setdefault(account_id, {})[rule.kind] = rule

    async def states(self) -> list[AlertState]:
        return list(self._states.values())

    async def change(self, state: AlertState, alert: Alert | None) -> bool:
        key = (state.account_id, state.kind, state.subject)
        known = self._states.get(key)
        if (known.version if known else 0) != state.version - 1:
            return False
        self._states[key] = state
        if alert is not None:
            self._alerts[alert.alert_id] = alert
            for endpoint in await self.endpoints(alert.account_id):
                if not endpoint.event_types or alert.event_type in endpoint.event_types:
                    delivery = Delivery(
                        new_id("whd", alert.occurred_at_ms),
                        endpoint.endpoint_id,
                        alert.alert_id,
                        alert.account_id,
                        next_at_ms=alert.occurred_at_ms,
                    )
                    self._deliveries[delivery.delivery_id] = delivery
        return True

    async def alerts(self, account_id: str, *, limit: int, before: str = "") -> list[Alert]:
        found = (a for a in self._alerts.values() if a.account_id == account_id)
        behind = [a for a in found if not before or a.alert_id < before]
        return sorted(behind, key=lambda a: a.alert_id, reverse=True)[:limit]

    async def endpoints(self, account_id: str) -> list[Endpoint]:
        found = (e for e in self._endpoints.values() if e.account_id == account_id)
        return sorted(found, key=lambda e: e.endpoint_id)

    async def save_endpoint(self, endpoint: Endpoint) -> None:
        self._endpoints[endpoint.endpoint_id] = endpoint

    async def delete_endpoint(self, account_id: str, endpoint_id: str) -> bool:
        known = self._endpoints.get(endpoint_id)
        if known is None or known.account_id != account_id:
            return False
        del self._endpoints[endpoint_id]
        for delivery in list(self._deliveries.values()):
            if delivery.endpoint_id == endpoint_id:
                del self._deliveries[delivery.delivery_id]
        return True

    async def claim_due(
        self, *, now_ms: int, limit: int, lease_ms: int
    ) -> Sequence[tuple[Delivery, Endpoint, Alert]]:
        due = [
            delivery
            for delivery in self._deliveries.values()
            if delivery.state == "pending" and delivery.next_at_ms <= now_ms
        ]
        due.sort(key=lambda delivery: delivery.next_at_ms)
        claimed = []
        for delivery in due[:limit]:
            leased = replace(delivery, next_at_ms=now_ms + lease_ms)
            self._deliveries[delivery.delivery_id] = leased
            endpoint = self._endpoints[delivery.endpoint_id]
            claimed.append((leased, endpoint, self._alerts[delivery.alert_id]))
        return claimed

    async def save_delivery(self, delivery: Delivery) -> None:
        if delivery.delivery_id in self._deliveries:
            self._deliveries[delivery.delivery_id] = delivery

    async def deliveries(self, account_id: str, *, limit: int) -> list[Delivery]:
        found = (d for d in self._deliveries.values() if d.account_id == account_id)
        return sorted(found, key=lambda d: d.delivery_id, reverse=True)[:limit]
