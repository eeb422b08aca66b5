"""Alerts: what was raised and whether it has passed, rules, webhooks and their deliveries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.common.errors import InvalidArgument
from services.common.money import nanousd_from_field, usd_from_nanousd
from services.common.pb.mesh.usage.v1 import alerts_pb2, alerts_pb2_grpc
from services.dashboard.api.parts import Taken, Whole
from services.dashboard.api.session import BackendsDep, PathId, SessionDep
from services.dashboard.api.translate import moment
from services.dashboard.ports import Backends

router = APIRouter(tags=["alerts"])
ALERTS_SHOWN = 200
DELIVERIES_SHOWN = 50
ROTATION_GRACE_S = 86_400
INT32_MAX = 2**31 - 1

Unit = Literal["usd", "usd_per_hour", "percent"]
UNITS: dict[str, Unit] = {"balance_low": "usd", "spend_rate": "usd_per_hour"}


class AlertOut(BaseModel):
    """Something that an account was told of. The figures are decimal strings in the unit."""

    alert_id: str
    event_type: str
    kind: str
    # `wallet`, `account`, `key:<id>` or another scope.
    subject: str
    value: str
    threshold: str
    unit: Unit
    since: str
    # When the subject had recovered; null while it has not.
    resolved_at: str | None


class RuleOut(BaseModel):
    kind: str
    enabled: bool
    # Empty for caps, whose levels are 80, 95 and 100 %.
    threshold: str
    unit: Unit
    window_s: int
    min_requests: int


class RuleIn(Taken):
    enabled: bool
    threshold: str = ""
    window_s: Whole = 0
    min_requests: Whole = 0


class WebhookIn(Taken):
    url: str
    # Empty: every type.
    event_types: list[str] = Field(default=[])


class WebhookOut(BaseModel):
    endpoint_id: str
    url: str
    event_types: list[str]
    created_at: str
    # Until when the secret before signs as well.
    old_secret_until: str | None


class WebhookCreated(BaseModel):
    webhook: WebhookOut
    # Shown this once.
    secret: str


class DeliveryOut(BaseModel):
    delivery_id: str
    endpoint_id: str
    alert_id: str
    state: str
    attempts: int
    next_at: str | None
    last_status: int
    last_error: str


def stub_of(backends: Backends) -> alerts_pb2_grpc.AlertServiceAsyncStub:
    stub: alerts_pb2_grpc.AlertServiceAsyncStub = alerts_pb2_grpc.AlertServiceStub(
        backends.usage_live_channel.channel()
    )
    return stub


def figure(unit: Unit, value: int) -> str:
    return f"{value // 10}.{value % 10}" if unit == "percent" else usd_from_nanousd(value)


def threshold_of(kind: str, text: str) -> int:
    """In the unit of the rule's message. InvalidArgument where it is no figure."""
    if kind == "spend_cap":
        return 0
    if UNITS.get(kind, "percent") != "percent":
        return nanousd_from_field("threshold", text)
    if not re.fullmatch(r"[0-9]{1,3}([.][0-9])?", text):
        raise InvalidArgument.of("threshold", "is a percentage with at most one decimal place")
    whole, _, tenth = text.partition(".")
    return int(whole) * 10 + int(tenth or 0)


def alerts_out(newest_first: Iterable[alerts_pb2.Alert]) -> list[AlertOut]:
    """What rose, each with the moment at which its subject had recovered."""
    recovered: dict[tuple[str, str], int] = {}
    found: list[AlertOut] = []
    for alert in newest_first:
        subject = (alert.kind, alert.subject)
        if alert.event_type.endswith(".recovered"):
            recovered[subject] = alert.occurred_at_ms
            continue
        unit = UNITS.get(alert.kind, "percent")
        found.append(
            AlertOut(
                alert_id=alert.alert_id,
                event_type=alert.event_type,
                kind=alert.kind,
                subject=alert.subject,
                value=figure(unit, alert.value),
                threshold=figure(unit, alert.threshold),
                unit=unit,
                since=moment(alert.occurred_at_ms) or "",
                resolved_at=moment(recovered.get(subject, 0)),
            )
        )
    return found


def rule_out(rule: alerts_pb2.AlertRule) -> RuleOut:
    unit = UNITS.get(rule.kind, "percent")
    return RuleOut(
        kind=rule.kind,
        enabled=rule.enabled,
        threshold="" if rule.kind == "spend_cap" else figure(unit, rule.threshold),
        unit=unit,
        window_s=rule.window_s,
        min_requests=rule.min_requests,
    )


def webhook_out(found: alerts_pb2.Webhook) -> WebhookOut:
    return WebhookOut(
        endpoint_id=found.endpoint_id,
        url=found.url,
        event_types=list(found.event_types),
        created_at=moment(found.created_at_ms) or "",
        old_secret_until=moment(found.previous_secret_until_ms),
    )


@router.get("/alerts")
async def list_alerts(session: SessionDep, backends: BackendsDep) -> list[AlertOut]:
    """The newest alerts; what passed within them is said of each."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).ListAlerts,
        alerts_pb2.ListAlertsRequest(limit=ALERTS_SHOWN),
        principal=session.caller,
    )
    return alerts_out(answer.alerts)


@router.get("/alert-rules")
async def list_rules(session: SessionDep, backends: BackendsDep) -> list[RuleOut]:
    """One rule of each kind."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).ListAlertRules,
        alerts_pb2.ListAlertRulesRequest(),
        principal=session.caller,
    )
    return [rule_out(rule) for rule in answer.rules]


@router.put("/alert-rules/{kind}")
async def set_rule(
    kind: PathId, body: RuleIn, *, session: SessionDep, backends: BackendsDep
) -> RuleOut:
    """In place of the rule of that kind."""
    request = alerts_pb2.AlertRule(
        kind=kind,
        enabled=body.enabled,
        threshold=threshold_of(kind, body.threshold),
        # What is beyond a message's field is beyond the rule's bounds too.
        window_s=min(body.window_s, INT32_MAX),
        min_requests=min(body.min_requests, INT32_MAX),
    )
    return rule_out(
        await backends.usage_live_channel.call(
            stub_of(backends).SetAlertRule, request, principal=session.caller
        )
    )


@router.get("/webhooks")
async def list_webhooks(session: SessionDep, backends: BackendsDep) -> list[WebhookOut]:
    """Where alerts are sent."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).ListWebhooks, alerts_pb2.ListWebhooksRequest(), principal=session.caller
    )
    return [webhook_out(one) for one in answer.webhooks]


@router.post("/webhooks", status_code=201)
async def create_webhook(
    body: WebhookIn, session: SessionDep, backends: BackendsDep
) -> WebhookCreated:
    """A new endpoint; its secret is in this answer and nowhere else."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).CreateWebhook,
        alerts_pb2.CreateWebhookRequest(url=body.url, event_types=body.event_types),
        principal=session.caller,
    )
    return WebhookCreated(webhook=webhook_out(answer.webhook), secret=answer.plain_secret)


@router.post("/webhooks/{endpoint_id}/rotate")
async def rotate_webhook(
    endpoint_id: PathId, session: SessionDep, backends: BackendsDep
) -> WebhookCreated:
    """A new secret; requests are signed with the old one as well for one more day."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).RotateWebhookSecret,
        alerts_pb2.RotateWebhookSecretRequest(endpoint_id=endpoint_id, grace_s=ROTATION_GRACE_S),
        principal=session.caller,
    )
    return WebhookCreated(webhook=webhook_out(answer.webhook), secret=answer.plain_secret)


@router.delete("/webhooks/{endpoint_id}", status_code=204)
async def delete_webhook(endpoint_id: PathId, session: SessionDep, backends: BackendsDep) -> None:
    """Sends nothing to the endpoint any more."""
    await backends.usage_live_channel.call(
        stub_of(backends).DeleteWebhook,
        alerts_pb2.DeleteWebhookRequest(endpoint_id=endpoint_id),
        principal=session.caller,
    )


@router.get("/webhook-deliveries")
async def list_deliveries(session: SessionDep, backends: BackendsDep) -> list[DeliveryOut]:
    """The newest deliveries and how they stand."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).ListWebhookDeliveries,
        alerts_pb2.ListWebhookDeliveriesRequest(limit=DELIVERIES_SHOWN),
        principal=session.caller,
    )
    return [
        DeliveryOut(
            delivery_id=one.delivery_id,
            endpoint_id=one.endpoint_id,
            alert_id=one.alert_id,
            state=one.state,
            attempts=one.attempts,
            next_at=moment(one.next_at_ms),
            last_status=one.last_status,
            last_error=one.last_error,
        )
        for one in answer.deliveries
    ]
