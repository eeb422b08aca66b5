"""QuotasService: requests and tokens for gateway workers, from protobuf to commands and back."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.billing.domain.quotas import (
    DrawQuota,
    LeaseId,
    Meter,
    RefusalName,
    ReturnQuota,
    window_end,
)
from services.billing.entrypoints.checks import ID_LENGTH_MAX, checked_id, checked_text
from services.billing.quota_desk import QuotaDesk
from services.billing.quota_handlers import Lent, Refused
from services.common.errors import InvalidArgument
from services.common.grpc import Access
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import quotas_pb2, quotas_pb2_grpc

SERVICE = "mesh.billing.v1.QuotasService"
_GATEWAY = Access(frozenset({"gateway"}), "none")
POLICIES = {
    f"/{SERVICE}/DrawQuota": _GATEWAY,
    f"/{SERVICE}/ReturnQuota": _GATEWAY,
    f"/{SERVICE}/GetQuotas": _GATEWAY,
}
# No request and no worker uses more than that in a minute; sums of it still fit a column.
COUNT_MAX = 10**12

_LIMITS: dict[RefusalName, quotas_pb2.QuotaLimit.ValueType] = {
    "rpm": quotas_pb2.QUOTA_LIMIT_RPM,
    "rpd": quotas_pb2.QUOTA_LIMIT_RPD,
    "tpm": quotas_pb2.QUOTA_LIMIT_TPM,
    "key_inactive": quotas_pb2.QUOTA_LIMIT_KEY_INACTIVE,
}


class QuotasServicer(quotas_pb2_grpc.QuotasServiceServicer):
    """Translates; the desk does the work."""

    def __init__(self, desk: QuotaDesk) -> None:
        self._desk = desk

    async def DrawQuota(
        self,
        request: quotas_pb2.DrawQuotaRequest,
        context: Any,  # Any: grpc's own class
    ) -> quotas_pb2.DrawQuotaResponse:
        answer = await self._desk.draw(command_from_draw(request))
        if isinstance(answer, Refused):
            return quotas_pb2.DrawQuotaResponse(refusal=refusal_to_pb(answer))
        return quotas_pb2.DrawQuotaResponse(lease=lease_to_pb(answer))

    async def ReturnQuota(
        self,
        request: quotas_pb2.ReturnQuotaRequest,
        context: Any,  # Any: grpc's own class
    ) -> quotas_pb2.ReturnQuotaResponse:
        await self._desk.give_back(command_from_return(request))
        return quotas_pb2.ReturnQuotaResponse()

    async def GetQuotas(
        self,
        request: quotas_pb2.GetQuotasRequest,
        context: Any,  # Any: grpc's own class
    ) -> quotas_pb2.GetQuotasResponse:
        account_id = AccountId(checked_id("account_id", request.account_id))
        model_id = checked_text("model_id", request.model_id, length_max=ID_LENGTH_MAX)
        if not request.key_id:
            if model_id:
                raise InvalidArgument.of("model_id", "needs a key_id")
            meters, now_ms = await self._desk.account_meters(account_id)
        else:
            key_id = KeyId(checked_id("key_id", request.key_id))
            meters, now_ms = await self._desk.meters(account_id, key_id, model_id)
        return quotas_pb2.GetQuotasResponse(now_ms=now_ms, meters=meters_to_pb(meters))


def command_from_draw(request: quotas_pb2.DrawQuotaRequest) -> DrawQuota:
    """The command. Raises InvalidArgument."""
    if request.model_scopes_only and not request.model_id:
        raise InvalidArgument.of("model_scopes_only", "needs a model_id")
    return DrawQuota(
        LeaseId(checked_id("lease_id", request.lease_id)),
        WorkerId(checked_id("worker_id", request.worker_id)),
        AccountId(checked_id("account_id", request.account_id)),
        KeyId(checked_id("key_id", request.key_id)),
        _checked_count("key_version", request.key_version),
        _checked_count("needed_requests", request.needed_requests),
        _checked_count("wanted_requests", request.wanted_requests),
        _checked_count("needed_tokens", request.needed_tokens),
        _checked_count("wanted_tokens", request.wanted_tokens),
        checked_text("model_id", request.model_id, length_max=ID_LENGTH_MAX),
        request.model_scopes_only,
    )


def command_from_return(request: quotas_pb2.ReturnQuotaRequest) -> ReturnQuota:
    """The command. Raises InvalidArgument."""
    return ReturnQuota(
        LeaseId(checked_id("lease_id", request.lease_id)),
        WorkerId(checked_id("worker_id", request.worker_id)),
        AccountId(checked_id("account_id", request.account_id)),
        KeyId(checked_id("key_id", request.key_id)),
        _checked_count("used_requests", request.used_requests),
        _checked_count("used_tokens", request.used_tokens),
        _checked_count("revision", request.revision, least=1),
    )


def lease_to_pb(lent: Lent) -> quotas_pb2.QuotaLease:
    """The lease's message."""
    lease = lent.lease
    return quotas_pb2.QuotaLease(
        lease_id=lease.lease_id,
        requests=lease.requests,
        tokens=lease.tokens,
        now_ms=lent.now_ms,
        usable_until_ms=lease.usable_until_ms,
        minute_ends_at_ms=window_end("minute", lease.drawn_at_ms),
        day_ends_at_ms=window_end("day", lease.drawn_at_ms),
        meters=meters_to_pb(lent.meters),
    )


def refusal_to_pb(refused: Refused) -> quotas_pb2.QuotaRefusal:
    """The refusal's message."""
    refusal = refused.refusal
    return quotas_pb2.QuotaRefusal(
        limit=_LIMITS[refusal.limit],
        limit_value=refusal.limit_value,
        retry_after_ms=refusal.retry_after_ms,
        held=refusal.held,
        now_ms=refused.now_ms,
        meters=meters_to_pb(refused.meters),
        scope=refusal.scope,
    )


def meters_to_pb(meters: Iterable[Meter]) -> list[quotas_pb2.QuotaMeter]:
    """The messages of meters."""
    return [
        quotas_pb2.QuotaMeter(
            limit=_LIMITS[meter.limit],
            limit_value=meter.limit_value,
            taken=meter.taken,
            resets_at_ms=meter.resets_at_ms,
            scope=meter.scope,
        )
        for meter in meters
    ]


def _checked_count(field: str, value: int, *, least: int = 0) -> int:
    if not least <= value <= COUNT_MAX:
        raise InvalidArgument.of(field, f"must be between {least} and {COUNT_MAX}")
    return value
