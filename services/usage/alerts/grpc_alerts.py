"""The gRPC API of alerts: rules, what was raised, webhooks."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import Access, principal
from services.common.pb.mesh.usage.v1 import alerts_pb2, alerts_pb2_grpc
from services.usage.alerts.evaluator import AlertBook
from services.usage.alerts.ports import AlertStore, Delivery, Endpoint
from services.usage.alerts.webhooks import Webhooks
from services.usage.domain.alerts import KINDS, Alert, AlertRule

_CALLERS = frozenset({"dashboard", "cli"})
_READERS = Access(services=_CALLERS | {"gateway"}, principal="user")
_WRITERS = Access(services=_CALLERS, principal="user", role_min="admin")
_RULE_WRITERS = Access(services=_CALLERS | {"gateway"}, principal="user", role_min="admin")
_SERVICE = "/mesh.usage.v1.AlertService"
POLICIES = {
    f"{_SERVICE}/ListAlertRules": _READERS,
    f"{_SERVICE}/ListAlerts": _READERS,
    f"{_SERVICE}/SetAlertRule": _RULE_WRITERS,
    f"{_SERVICE}/CreateWebhook": _WRITERS,
    f"{_SERVICE}/ListWebhooks": _WRITERS,
    f"{_SERVICE}/RotateWebhookSecret": _WRITERS,
    f"{_SERVICE}/DeleteWebhook": _WRITERS,
    f"{_SERVICE}/ListWebhookDeliveries": _WRITERS,
}
LIMIT_DEFAULT, LIMIT_MAX = 50, 200

# Any: nothing here reads or writes messages through the context.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AlertServicer(alerts_pb2_grpc.AlertServiceServicer):
    """`mesh.usage.v1.AlertService`."""

    def __init__(self, store: AlertStore, book: AlertBook, webhooks: Webhooks) -> None:
        self._store = store
        self._book = book
        self._webhooks = webhooks

    async def ListAlertRules(
        self, _request: alerts_pb2.ListAlertRulesRequest, _context: Context
    ) -> alerts_pb2.ListAlertRulesResponse:
        await self._book.load()
        rules = self._book.of(_account())
        return alerts_pb2.ListAlertRulesResponse(rules=[_rule_to_wire(rules[k]) for k in KINDS])

    async def SetAlertRule(
        self, request: alerts_pb2.AlertRule, _context: Context
    ) -> alerts_pb2.AlertRule:
        account_id = _account()
        if request.kind not in KINDS:
            raise InvalidArgument.of("kind", f"is one of {', '.join(KINDS)}")
        rule = AlertRule(
            request.kind,
            # Of caps there is no threshold to set.
            request.threshold if request.kind != "spend_cap" else 1,
            request.enabled,
            request.window_s or 300,
            request.min_requests or 20,
        )
        caller = principal()
        # An admin key acts as its maker, under its own id.
        await self._book.set(account_id, rule, by=caller.key_id or caller.user_id)
        return _rule_to_wire(rule)

    async def ListAlerts(
        self, request: alerts_pb2.ListAlertsRequest, _context: Context
    ) -> alerts_pb2.ListAlertsResponse:
        found = await self._store.alerts(
            _account(), limit=_limit(request.limit), before=request.before
        )
        return alerts_pb2.ListAlertsResponse(alerts=[_alert_to_wire(alert) for alert in found])

    async def CreateWebhook(
        self, request: alerts_pb2.CreateWebhookRequest, _context: Context
    ) -> alerts_pb2.WebhookWithSecret:
        endpoint, secret = await self._webhooks.create(
            _account(), request.url, tuple(request.event_types)
        )
        return alerts_pb2.WebhookWithSecret(webhook=_to_wire(endpoint), plain_secret=secret)

    async def ListWebhooks(
        self, _request: alerts_pb2.ListWebhooksRequest, _context: Context
    ) -> alerts_pb2.ListWebhooksResponse:
        found = await self._store.endpoints(_account())
        return alerts_pb2.ListWebhooksResponse(webhooks=[_to_wire(one) for one in found])

    async def RotateWebhookSecret(
        self, request: alerts_pb2.RotateWebhookSecretRequest, _context: Context
    ) -> alerts_pb2.WebhookWithSecret:
        endpoint, secret = await self._webhooks.rotate(
            _account(), request.endpoint_id, grace_s=request.grace_s
        )
        return alerts_pb2.WebhookWithSecret(webhook=_to_wire(endpoint), plain_secret=secret)

    async def DeleteWebhook(
        self, request: alerts_pb2.DeleteWebhookRequest, _context: Context
    ) -> alerts_pb2.DeleteWebhookResponse:
        await self._webhooks.delete(_account(), request.endpoint_id)
        return alerts_pb2.DeleteWebhookResponse()

    async def ListWebhookDeliveries(
        self, request: alerts_pb2.ListWebhookDeliveriesRequest, _context: Context
    ) -> alerts_pb2.ListWebhookDeliveriesResponse:
        found = await self._store.deliveries(_account(), limit=_limit(request.limit))
        return alerts_pb2.ListWebhookDeliveriesResponse(
            deliveries=[_delivery_to_wire(one) for one in found]
        )


def _account() -> str:
    account_id = principal().account_id
    if not account_id:
        raise Forbidden("the principal acts for no account")
    return account_id


def _limit(asked: int) -> int:
    if asked > LIMIT_MAX:
        raise InvalidArgument.of("limit", f"is at most {LIMIT_MAX}")
    return asked or LIMIT_DEFAULT


def _rule_to_wire(rule: AlertRule) -> alerts_pb2.AlertRule:
    return alerts_pb2.AlertRule(
        kind=rule.kind,
        threshold=0 if rule.kind == "spend_cap" else rule.threshold,
        enabled=rule.enabled,
        window_s=rule.window_s,
        min_requests=rule.min_requests,
    )


def _alert_to_wire(alert: Alert) -> alerts_pb2.Alert:
    return alerts_pb2.Alert(
        alert_id=alert.alert_id,
        event_type=alert.event_type,
        kind=alert.kind,
        subject=alert.subject,
        level=alert.level,
        value=alert.value,
        threshold=alert.threshold,
        occurred_at_ms=alert.occurred_at_ms,
    )


def _to_wire(endpoint: Endpoint) -> alerts_pb2.Webhook:
    rotating = endpoint.previous_secret is not None
    return alerts_pb2.Webhook(
        endpoint_id=endpoint.endpoint_id,
        url=endpoint.url,
        event_types=endpoint.event_types,
        created_at_ms=endpoint.created_at_ms,
        previous_secret_until_ms=endpoint.previous_until_ms if rotating else 0,
    )


def _delivery_to_wire(delivery: Delivery) -> alerts_pb2.WebhookDelivery:
    return alerts_pb2.WebhookDelivery(
        delivery_id=delivery.delivery_id,
        endpoint_id=delivery.endpoint_id,
        alert_id=delivery.alert_id,
        state=delivery.state,
        attempts=delivery.attempts,
        next_at_ms=delivery.next_at_ms if delivery.state == "pending" else 0,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
    )
