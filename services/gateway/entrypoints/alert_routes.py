"""Alerts of the account: for who is logged in, and for admin keys with `alerts:*`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.common.errors import InvalidArgument
from services.common.money import nanousd_from_field, usd_from_nanousd
from services.gateway.alerts import AlertKind, AlertRule, RaisedAlert
from services.gateway.entrypoints.account_routes import iso_from_unix_ms
from services.gateway.entrypoints.app import PublicReads, reads_of
from services.gateway.entrypoints.callers import Manager, manager_of
from services.gateway.entrypoints.system_routes import json_response

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

Reads = Annotated[PublicReads, Depends(reads_of)]
Reader = Annotated[Manager, Depends(manager_of("alerts:read", "alerts:write"))]
Writer = Annotated[Manager, Depends(manager_of("alerts:write"))]
Unit = Literal["usd", "usd_per_hour", "percent"]
_UNITS: dict[str, Unit] = {"balance_low": "usd", "spend_rate": "usd_per_hour"}
_PERCENT = re.compile(r"[0-9]{1,3}([.][0-9])?")


class AlertRuleChange(BaseModel):
    """The whole rule; what is absent has its default."""

    model_config = ConfigDict(json_schema_extra={"example": {"enabled": True, "threshold": "5.00"}})

    enabled: bool
    threshold: str | None = Field(
        None, max_length=40, description="In the rule's unit; `spend_cap` has none."
    )
    window_s: int = Field(300, ge=60, le=1_800, description="Whole minutes, of rates.")
    min_requests: int = Field(20, ge=1, le=1_000_000, description="Of fewer nothing is told.")


class AlertRuleObject(BaseModel):
    """When the account is told of this kind; a cap is told of at 80, 95 and 100 %."""

    kind: str
    enabled: bool
    threshold: str | None
    unit: Unit
    window_s: int
    min_requests: int


class AlertObject(BaseModel):
    """One alert that was raised, or the return to quiet (`.recovered`)."""

    id: str
    type: str
    kind: str
    subject: str = Field(description="`wallet`, `account`, `key:<id>` or another scope.")
    value: str
    threshold: str
    unit: Unit
    created_at: str


class AlertPage(BaseModel):
    """A page, newest first; `next_before` is the `before` of the next, null on the last."""

    alerts: list[AlertObject]
    next_before: str | None


@router.get("", response_model=AlertPage)
async def list_alerts(
    reads: Reads,
    manager: Reader,
    *,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """What was raised, newest first."""
    found = await reads.alerts.raised(manager.principal, limit=limit, before=before)
    following = found[-1].alert_id if len(found) == limit else None
    return json_response({"alerts": [_alert(one) for one in found], "next_before": following})


@router.get("/rules", response_model=list[AlertRuleObject])
async def list_alert_rules(reads: Reads, manager: Reader) -> Response:
    """One rule of each kind."""
    return json_response([_rule(rule) for rule in await reads.alerts.rules(manager.principal)])


@router.put("/rules/{kind}", response_model=AlertRuleObject)
async def set_alert_rule(
    kind: AlertKind, wanted: AlertRuleChange, reads: Reads, *, manager: Writer
) -> Response:
    """In place of the rule of that kind; `enabled: false` puts it out of force."""
    rule = AlertRule(
        kind, _threshold(kind, wanted), wanted.enabled, wanted.window_s, wanted.min_requests
    )
    return json_response(_rule(await reads.alerts.set_rule(manager.principal, rule)))


def _threshold(kind: AlertKind, wanted: AlertRuleChange) -> int:
    text = wanted.threshold
    if kind == "spend_cap":
        if text is not None:
            raise InvalidArgument.of("body.threshold", "caps are told of at 80, 95 and 100 %")
        return 0
    if text is None:
        raise InvalidArgument.of("body.threshold", "Field required")
    if kind == "error_rate":
        if not _PERCENT.fullmatch(text):
            raise InvalidArgument.of("body.threshold", "is a percentage of at most one decimal")
        whole, _, tenth = text.partition(".")
        return int(whole) * 10 + int(tenth or 0)
    nanousd = nanousd_from_field("body.threshold", text)
    if not 0 < nanousd <= 10**18:
        raise InvalidArgument.of("body.threshold", "is more than nothing and at most 1 billion")
    return nanousd


def _figure(kind: str, value: int) -> str:
    if kind in _UNITS:
        return usd_from_nanousd(value)
    return f"{value // 10}.{value % 10}"


def _rule(rule: AlertRule) -> dict[str, Any]:  # Any: JSON
    return {
        "kind": rule.kind,
        "enabled": rule.enabled,
        "threshold": None if rule.kind == "spend_cap" else _figure(rule.kind, rule.threshold),
        "unit": _UNITS.get(rule.kind, "percent"),
        "window_s": rule.window_s,
        "min_requests": rule.min_requests,
    }


def _alert(one: RaisedAlert) -> dict[str, Any]:  # Any: JSON
    return {
        "id": one.alert_id,
        "type": one.event_type,
        "kind": one.kind,
        "subject": one.subject,
        "value": _figure(one.kind, one.value),
        "threshold": _figure(one.kind, one.threshold),
        "unit": _UNITS.get(one.kind, "percent"),
        "created_at": iso_from_unix_ms(one.occurred_at_ms),
    }
