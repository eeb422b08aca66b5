"""Billing's lending over gRPC: the budget's `Grants`."""

from __future__ import annotations

from collections.abc import Collection

from services.common.errors import InternalError
from services.common.grpc import GrpcChannel
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import grants_pb2 as pb
from services.common.pb.mesh.billing.v1 import grants_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.budget.ports import (
    BindingLimit,
    Grant,
    GrantRequest,
    GrantTotal,
    Refusal,
    RenewRequest,
)

_LIMITS: dict[pb.BindingLimit.ValueType, BindingLimit] = {
    pb.BINDING_LIMIT_BALANCE: "balance",
    pb.BINDING_LIMIT_KEY_CAP: "key_cap",
    pb.BINDING_LIMIT_KEY_INACTIVE: "key_inactive",
    pb.BINDING_LIMIT_MODEL_CAP: "model_cap",
    pb.BINDING_LIMIT_MEMBER_CAP: "member_cap",
    pb.BINDING_LIMIT_TEAM_CAP: "team_cap",
    pb.BINDING_LIMIT_ACCOUNT_MODEL_CAP: "account_model_cap",
    pb.BINDING_LIMIT_ACCOUNT_CAP: "account_cap",
}


class GrpcGrants:
    """Calls `GrantsService` for the key whose money is asked for."""

    def __init__(self, channel: GrpcChannel, worker_id: WorkerId) -> None:
        self._channel = channel
        self._worker_id = worker_id
        self._stub = grants_pb2_grpc.GrantsServiceStub(channel.channel())

    async def open(self, request: GrantRequest, *, timeout_s: float) -> Grant | Refusal:
        """See `Grants.open`. Raises InternalError for an answer that says neither."""
        answer = await self._channel.call(
            self._stub.OpenGrant,
            pb.OpenGrantRequest(
                grant_id=request.grant_id,
                worker_id=self._worker_id,
                account_id=request.account_id,
                key_id=request.key_id,
                key_version=request.key_version,
                needed_nanousd=request.needed_nanousd,
                least_nanousd=request.least_nanousd,
                wanted_nanousd=request.wanted_nanousd,
                model_id=request.model_id,
            ),
            principal=Principal("key", request.account_id, key_id=request.key_id),
            timeout_s=timeout_s,
        )
        return _loan_from_pb(answer, request.grant_id)

    async def renew(self, request: RenewRequest, *, timeout_s: float) -> Grant | Refusal:
        """See `Grants.renew`. Raises InternalError for an answer that says neither."""
        answer = await self._channel.call(
            self._stub.RenewGrant,
            pb.RenewGrantRequest(
                grant_id=request.grant_id,
                worker_id=self._worker_id,
                account_id=request.account_id,
                number=request.number,
                key_version=request.key_version,
                needed_nanousd=request.needed_nanousd,
                least_nanousd=request.least_nanousd,
                wanted_nanousd=request.wanted_nanousd,
                give_back_nanousd=request.give_back_nanousd,
            ),
            principal=Principal("key", request.account_id, key_id=request.key_id),
            timeout_s=timeout_s,
        )
        return _loan_from_pb(answer, request.grant_id)

    async def recalls(
        self, accounts: Collection[AccountId], *, timeout_s: float
    ) -> list[tuple[AccountId, KeyId]]:
        """See `Grants.recalls`."""
        answer = await self._channel.call(
            self._stub.ListRecalls,
            pb.ListRecallsRequest(worker_id=self._worker_id, account_ids=sorted(accounts)),
            timeout_s=timeout_s,
        )
        return [(AccountId(one.account_id), KeyId(one.key_id)) for one in answer.recalls]

    async def close(self, total: GrantTotal, *, timeout_s: float) -> int:
        """See `Grants.close`; under the worker that opened it, which may have had another name."""
        answer = await self._channel.call(
            self._stub.CloseGrant,
            pb.CloseGrantRequest(
                grant_id=total.grant_id,
                worker_id=total.worker_id,
                account_id=total.account_id,
                spent_nanousd=total.spent_nanousd,
            ),
            principal=Principal("key", total.account_id, key_id=total.key_id),
            timeout_s=timeout_s,
        )
        return answer.returned_nanousd


def _loan_from_pb(
    answer: pb.OpenGrantResponse | pb.RenewGrantResponse, grant_id: GrantId
) -> Grant | Refusal:
    match answer.WhichOneof("result"):
        case "grant":
            if answer.grant.grant_id != grant_id:
                raise InternalError("billing answered with another grant")
            return _grant_from_pb(answer.grant)
        case "refusal":
            return _refusal_from_pb(answer.refusal)
        case _:
            raise InternalError("billing answered neither with a grant nor with a refusal")


def _grant_from_pb(message: pb.Grant) -> Grant:
    return Grant(GrantId(message.grant_id), message.amount_nanousd, message.expires_at_ms)


def _refusal_from_pb(message: pb.Refusal) -> Refusal:
    limit = _LIMITS.get(message.limit)
    if limit is None:
        raise InternalError(f"billing refused by a limit that is not known: {message.limit}")
    return Refusal(
        limit,
        held=message.held,
        retry_after_ms=message.retry_after_ms,
        available_nanousd=message.available_nanousd,
    )
