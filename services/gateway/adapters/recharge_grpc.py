"""Automatic recharge by gRPC at billing."""

from __future__ import annotations

from services.common.grpc import GrpcChannel
from services.common.pb.mesh.billing.v1 import payments_pb2, payments_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.recharge import Recharge, RechargeCharge, RechargeSettings


class GrpcRecharges:
    """`Recharges` at billing."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = payments_pb2_grpc.PaymentsServiceStub(channel.channel())

    async def recharge(self, principal: Principal) -> Recharge:
        request = payments_pb2.GetRefillRequest()
        return _recharge_from_pb(
            await self._channel.call(self._stub.GetRefill, request, principal=principal)
        )

    async def set_up(self, principal: Principal, wanted: RechargeSettings) -> Recharge:
        settings = payments_pb2.RefillSettings(
            enabled=wanted.enabled,
            threshold_nanousd=wanted.threshold_nanousd,
            amount_nanousd=wanted.amount_nanousd,
            day_max_nanousd=wanted.day_max_nanousd,
            month_max_nanousd=wanted.month_max_nanousd,
        )
        answer = await self._channel.call(
            self._stub.ConfigureRefill,
            payments_pb2.ConfigureRefillRequest(settings=settings),
            principal=principal,
        )
        return _recharge_from_pb(answer.refill)


def _recharge_from_pb(found: payments_pb2.GetRefillResponse) -> Recharge:
    settings = found.settings
    return Recharge(
        RechargeSettings(
            settings.enabled,
            settings.threshold_nanousd,
            settings.amount_nanousd,
            settings.day_max_nanousd,
            settings.month_max_nanousd,
        ),
        found.state,
        found.until_ms,
        found.card_label,
        found.switched_off_because,
        [
            RechargeCharge(
                one.refill_id, one.amount_nanousd, one.status, one.started_at_ms, one.failure_code
            )
            for one in found.charges
        ],
    )
