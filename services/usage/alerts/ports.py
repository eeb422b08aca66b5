"""What alerts need of the outside: a store, and measures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.usage.domain.alerts import Alert, AlertKind, AlertRule, AlertState, Measure

DeliveryState = Literal["pending", "delivered", "failed"]
Rules = Mapping[AlertKind, AlertRule]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an account wants to hear of alerts; no types: of all. Secrets are sealed."""

    endpoint_id: str
    account_id: str
    url: str
    event_types: tuple[str, ...]
    secret: bytes
    previous_secret: bytes | None
    previous_until_ms: int
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert on its way to one endpoint. `attempts` were made; the next is due at
    `next_at_ms`.
    """

    delivery_id: str
    endpoint_id: str
    alert_id: str
    account_id: str
    state: DeliveryState = "pending"
    attempts: int = 0
    next_at_ms: int = 0
    last_status: int = 0
    last_error: str = ""


class AlertStore(Protocol):
    """Rules, states, alerts, endpoints and deliveries. Every method raises Unavailable where the
    store is away.
    """

    async def rules(self) -> dict[str, dict[AlertKind, AlertRule]]:
        """The rules that accounts have set, by account."""

    async def save_rule(self, account_id: str, rule: AlertRule, *, by: str, now_ms: int) -> None:
        """Sets a rule in place of the one before."""

    async def states(self) -> list[AlertState]:
        """How every subject stands that ever raised an alert."""

    async def change(self, state: AlertState, alert: Alert | None) -> bool:
        """Records the state, the alert and its deliveries, all or none. False where the version
        before is no longer the newest: then another did it.
        """

    async def alerts(self, account_id: str, *, limit: int, before: str = "") -> list[Alert]:
        """The account's alerts, newest first, from behind the id `before` on."""

    async def endpoints(self, account_id: str) -> list[Endpoint]:
        """The account's endpoints, oldest first."""

    async def save_endpoint(self, endpoint: Endpoint) -> None:
        """Adds the endpoint, or changes it."""

    async def delete_endpoint(self, account_id: str, endpoint_id: str) -> bool:
        """Removes it with its deliveries; False where the account has none of that id."""

    async def claim_due(
        self, *, now_ms: int, limit: int, lease_ms: int
    ) -> Sequence[tuple[Delivery, Endpoint, Alert]]:
        """Pending deliveries whose time has come; nobody else gets them within the lease."""

    async def save_delivery(self, delivery: Delivery) -> None:
        """Records what became of an attempt."""

    async def deliveries(self, account_id: str, *, limit: int) -> list[Delivery]:
        """The account's deliveries, newest first."""


class Measures(Protocol):
    """Where values come from."""

    def accounts(self) -> Collection[str]:
        """Whose values may have changed since it was last asked."""

    async def of(self, account_id: str, rules: Rules, *, now_ms: int) -> list[Measure]:
        """The account's values now; a kind that cannot be told at the moment is left out."""
