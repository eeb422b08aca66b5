"""`mesh admin alerts`: what was raised, rules, and webhooks."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, Count, CountOrNone, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows
from services.common.errors import NotFound
from services.common.pb.mesh.usage.v1 import alerts_pb2

app = App(name="alerts", help="What was raised, rules, and webhooks.")
webhooks = App(name="webhooks", help="Where alerts go: add, list, rotate, remove, deliveries.")
app.command(webhooks)


def alert_row(alert: alerts_pb2.Alert) -> Row:
    return {
        "occurred_at": moment(alert.occurred_at_ms),
        "event_type": alert.event_type,
        "subject": alert.subject,
        "level": alert.level,
        "value": alert.value,
        "threshold": alert.threshold,
        "alert_id": alert.alert_id,
    }


def rule_row(rule: alerts_pb2.AlertRule) -> Row:
    return {
        "kind": rule.kind,
        "enabled": rule.enabled,
        "threshold": rule.threshold,
        "window_s": rule.window_s,
        "min_requests": rule.min_requests,
    }


def webhook_row(webhook: alerts_pb2.Webhook) -> Row:
    return {
        "endpoint_id": webhook.endpoint_id,
        "url": webhook.url,
        "event_types": list(webhook.event_types),
        "created_at": moment(webhook.created_at_ms),
        "previous_secret_until": moment(webhook.previous_secret_until_ms),
    }


def command(account: str | None, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the AlertService method `name` for that account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        method = getattr(found.alerts, name)
        return await call(found, "usage_live", method=method, request=request, account=account_id)

    return run(work)


@app.command(name="list")
def list_alerts(
    *, limit: Count = 50, account: AccountOption = None, options: Options = Options()
) -> None:
    """What was raised, newest first."""
    answer = command(account, "ListAlerts", alerts_pb2.ListAlertsRequest(limit=limit))
    show_rows([alert_row(alert) for alert in answer.alerts], as_json=options.json)


@app.command
def rules(*, account: AccountOption = None, options: Options = Options()) -> None:
    """The rules: the account's own, or else the defaults."""
    answer = command(account, "ListAlertRules", alerts_pb2.ListAlertRulesRequest())
    show_rows([rule_row(rule) for rule in answer.rules], as_json=options.json)


@app.command
def set_rule(
    kind: str,
    *,
    threshold: int | None = None,
    enabled: bool | None = None,
    window_s: Annotated[int | None, Parameter(help="In whole minutes.")] = None,
    min_requests: int | None = None,
    account: AccountOption = None,
    options: Options = Options(),
) -> None:
    """Changes what is named of one rule."""
    known = command(account, "ListAlertRules", alerts_pb2.ListAlertRulesRequest())
    found = [rule for rule in known.rules if rule.kind == kind]
    if not found:
        names = ", ".join(rule.kind for rule in known.rules)
        raise NotFound(f"there is no rule {kind!r}; there are {names}")
    rule = found[0]
    given = {
        "threshold": threshold, "enabled": enabled, "window_s": window_s,
        "min_requests": min_requests,
    }  # fmt: skip
    for name, value in given.items():
        if value is not None:
            setattr(rule, name, value)
    show_one(rule_row(command(account, "SetAlertRule", rule)), as_json=options.json)


@webhooks.command
def add(
    url: str,
    *,
    event_types: Annotated[str, Parameter(help="Comma-separated; empty: all.")] = "",
    account: AccountOption = None,
    options: Options = Options(),
) -> None:
    """A new endpoint; its secret is shown this once."""
    types = [name.strip() for name in event_types.split(",") if name.strip()]
    request = alerts_pb2.CreateWebhookRequest(url=url, event_types=types)
    answer = command(account, "CreateWebhook", request)
    row = {"secret": answer.plain_secret, **webhook_row(answer.webhook)}
    show_one(row, as_json=options.json)


@webhooks.command(name="list")
def list_webhooks(*, account: AccountOption = None, options: Options = Options()) -> None:
    """The account's endpoints."""
    answer = command(account, "ListWebhooks", alerts_pb2.ListWebhooksRequest())
    show_rows([webhook_row(webhook) for webhook in answer.webhooks], as_json=options.json)


@webhooks.command
def rotate(
    endpoint_id: str,
    *,
    grace_s: Annotated[CountOrNone, Parameter(help="How long the old one signs too.")] = 86_400,
    account: AccountOption = None,
    options: Options = Options(),
) -> None:
    """A new secret, shown this once."""
    request = alerts_pb2.RotateWebhookSecretRequest(endpoint_id=endpoint_id, grace_s=grace_s)
    answer = command(account, "RotateWebhookSecret", request)
    row = {"secret": answer.plain_secret, **webhook_row(answer.webhook)}
    show_one(row, as_json=options.json)


@webhooks.command
def remove(endpoint_id: str, *, account: AccountOption = None) -> None:
    """Removes the endpoint; what is under way to it ends."""
    command(account, "DeleteWebhook", alerts_pb2.DeleteWebhookRequest(endpoint_id=endpoint_id))


@webhooks.command
def deliveries(
    *, limit: Count = 50, account: AccountOption = None, options: Options = Options()
) -> None:
    """What became of the newest alerts on their way."""
    request = alerts_pb2.ListWebhookDeliveriesRequest(limit=limit)
    answer = command(account, "ListWebhookDeliveries", request)
    rows: list[Row] = [
        {
            "delivery_id": one.delivery_id,
            "endpoint_id": one.endpoint_id,
            "alert_id": one.alert_id,
            "state": one.state,
            "attempts": one.attempts,
            "next_at": moment(one.next_at_ms),
            "last_status": one.last_status,
            "last_error": one.last_error,
        }
        for one in answer.deliveries
    ]
    show_rows(rows, as_json=options.json)
