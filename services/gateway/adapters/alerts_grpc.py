"""Alerts by gRPC at the usage service's live process."""

from __future__ import annotations

from typing import cast

from services.common.grpc import GrpcChannel
from services.common.pb.mesh.usage.v1 import alerts_pb2 as pb
from services.common.pb.mesh.usage.v1.alerts_pb2_grpc import AlertServiceStub
from services.common.security.tokens import Principal
from services.gateway.alerts import AlertKind, AlertRule, RaisedAlert


class GrpcAlerts:
    """`Alerts` at usage."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = AlertServiceStub(channel.channel())

    async def rules(self, principal: Principal) -> list[AlertRule]:
        request = pb.ListAlertRulesRequest()
        answer = await self._channel.call(self._stub.ListAlertRules, request, principal=principal)
        return [_rule_from_pb(rule) for rule in answer.rules]

    async def set_rule(self, principal: Principal, rule: AlertRule) -> AlertRule:
        request = pb.AlertRule(
            kind=rule.kind,
            threshold=rule.threshold,
            enabled=rule.enabled,
            window_s=rule.window_s,
            min_requests=rule.min_requests,
        )
        return _rule_from_pb(
            await self._channel.call(self._stub.SetAlertRule, request, principal=principal)
        )

    async def raised(self, principal: Principal, *, limit: int, before: str) -> list[RaisedAlert]:
        request = pb.ListAlertsRequest(limit=limit, before=before)
        answer = await self._channel.call(self._stub.ListAlerts, request, principal=principal)
        return [
            RaisedAlert(
                alert_id=one.alert_id,
                event_type=one.event_type,
                kind=one.kind,
                subject=one.subject,
                value=one.value,
                threshold=one.threshold,
                occurred_at_ms=one.occurred_at_ms,
            )
            for one in answer.alerts
        ]


def _rule_from_pb(rule: pb.AlertRule) -> AlertRule:
    return AlertRule(
        # Usage names no other kind; one that is newer is only shown.
        kind=cast("AlertKind", rule.kind),
        threshold=rule.threshold,
        enabled=rule.enabled,
        window_s=rule.window_s,
        min_requests=rule.min_requests,
    )
