"""Billing's quotas over gRPC: the `QuotaSource` of a worker."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.errors import InternalError
from services.common.grpc import GrpcChannel
from services.common.ids import AccountId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import quotas_pb2 as pb
from services.common.pb.mesh.billing.v1 import quotas_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.ports import QuotaLimit
from services.gateway.quota.ports import Draw, Lease, LeaseId, Meter, Refusal, Return

_LIMITS: dict[pb.QuotaLimit.ValueType, QuotaLimit] = {
    pb.QUOTA_LIMIT_RPM: "rpm",
    pb.QUOTA_LIMIT_RPD: "rpd",
    pb.QUOTA_LIMIT_TPM: "tpm",
}


class GrpcQuotas:
    """Calls `QuotasService` for the key whose quota is asked for."""

    def __init__(self, channel: GrpcChannel, worker_id: WorkerId) -> None:
        self._channel = channel
        self._worker_id = worker_id
        self._stub = quotas_pb2_grpc.QuotasServiceStub(channel.channel())

    async def draw(self, request: Draw, *, timeout_s: float) -> Lease | Refusal:
        """See `QuotaSource.draw`. Raises InternalError for an answer that says neither."""
        answer = await self._channel.call(
            self._stub.DrawQuota,
            pb.DrawQuotaRequest(
                lease_id=request.lease_id,
                worker_id=self._worker_id,
                account_id=request.account_id,
                key_id=request.key_id,
                key_version=request.key_version,
                needed_requests=request.needed_requests,
                wanted_requests=request.wanted_requests,
                needed_tokens=request.needed_tokens,
                wanted_tokens=request.wanted_tokens,
                model_id=request.model_id,
                model_scopes_only=request.model_scopes_only,
            ),
            principal=Principal("key", request.account_id, key_id=request.key_id),
            timeout_s=timeout_s,
        )
        match answer.WhichOneof("result"):
            case "lease":
                if answer.lease.lease_id != request.lease_id:
                    raise InternalError("billing answered with another lease")
                return _lease_from_pb(answer.lease)
            case "refusal":
                return _refusal_from_pb(answer.refusal)
            case _:
                raise InternalError("billing answered neither with a lease nor with a refusal")

    async def give_back(self, request: Return, *, timeout_s: float) -> None:
        """See `QuotaSource.give_back`."""
        await self._channel.call(
            self._stub.ReturnQuota,
            pb.ReturnQuotaRequest(
                lease_id=request.lease_id,
                worker_id=self._worker_id,
                account_id=request.account_id,
                key_id=request.key_id,
                used_requests=request.used_requests,
                used_tokens=request.used_tokens,
                revision=request.revision,
            ),
            principal=Principal("key", request.account_id, key_id=request.key_id),
            timeout_s=timeout_s,
        )

    async def meters(self, account_id: AccountId, key_id: KeyId) -> tuple[Meter, ...]:
        """See `QuotaSource.meters`."""
        answer = await self._channel.call(
            self._stub.GetQuotas,
            pb.GetQuotasRequest(account_id=account_id, key_id=key_id),
            principal=Principal("key", account_id, key_id=key_id),
        )
        return _meters_from_pb(answer.meters, answer.now_ms)

    async def account_meters(self, account_id: AccountId) -> tuple[Meter, ...]:
        """See `QuotaSource.account_meters`."""
        answer = await self._channel.call(
            self._stub.GetQuotas,
            pb.GetQuotasRequest(account_id=account_id),
            principal=Principal("key", account_id),
        )
        return _meters_from_pb(answer.meters, answer.now_ms)


def _lease_from_pb(message: pb.QuotaLease) -> Lease:
    return Lease(
        LeaseId(message.lease_id),
        message.requests if message.HasField("requests") else None,
        message.tokens if message.HasField("tokens") else None,
        _seconds(message.usable_until_ms, message.now_ms),
        _seconds(message.minute_ends_at_ms, message.now_ms),
        _seconds(message.day_ends_at_ms, message.now_ms),
        _meters_from_pb(message.meters, message.now_ms),
    )


def _refusal_from_pb(message: pb.QuotaRefusal) -> Refusal:
    inactive = message.limit == pb.QUOTA_LIMIT_KEY_INACTIVE
    return Refusal(
        "key_inactive" if inactive else _limit(message.limit),
        message.limit_value,
        message.retry_after_ms / 1000,
        held=message.held,
        meters=_meters_from_pb(message.meters, message.now_ms),
        scope=message.scope,
    )


def _meters_from_pb(messages: Iterable[pb.QuotaMeter], now_ms: int) -> tuple[Meter, ...]:
    return tuple(
        Meter(
            _limit(message.limit),
            message.limit_value,
            message.taken,
            _seconds(message.resets_at_ms, now_ms),
            message.scope,
        )
        for message in messages
    )


def _limit(value: pb.QuotaLimit.ValueType) -> QuotaLimit:
    limit = _LIMITS.get(value)
    if limit is None:
        raise InternalError(f"billing named a limit that is not known: {value}")
    return limit


def _seconds(moment_ms: int, now_ms: int) -> float:
    return max(0, moment_ms - now_ms) / 1000
