"""GrantsService: money for gateway workers, from protobuf to commands and back."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from __future__ import annotations

from typing import Any

from services.billing.domain.grants import CloseGrant, OpenGrant, Refusal, RenewGrant
from services.billing.domain.rooms import LimitName
from services.billing.domain.state import Grant
from services.billing.entrypoints.checks import (
    ID_LENGTH_MAX,
    checked_amount,
    checked_id,
    checked_text,
)
from services.billing.grant_desk import GrantDesk
from services.common.errors import InvalidArgument
from services.common.grpc import Access
from services.common.ids import AccountId, GrantId, KeyId, WorkerId
from services.common.pb.mesh.billing.v1 import grants_pb2, grants_pb2_grpc
from services.common.telemetry import current_traceparent

SERVICE = "mesh.billing.v1.GrantsService"
_GATEWAY = Access(frozenset({"gateway"}), "none")
_METHODS = ("OpenGrant", "CloseGrant", "RenewGrant", "ListRecalls")
POLICIES = {f"/{SERVICE}/{method}": _GATEWAY for method in _METHODS}
ACCOUNTS_MAX = 10_000

_LIMITS: dict[LimitName, grants_pb2.BindingLimit.ValueType] = {
    "balance": grants_pb2.BINDING_LIMIT_BALANCE,
    "key_cap": grants_pb2.BINDING_LIMIT_KEY_CAP,
    "member_cap": grants_pb2.BINDING_LIMIT_MEMBER_CAP,
    "team_cap": grants_pb2.BINDING_LIMIT_TEAM_CAP,
    "account_cap": grants_pb2.BINDING_LIMIT_ACCOUNT_CAP,
    "model_cap": grants_pb2.BINDING_LIMIT_MODEL_CAP,
    "account_model_cap": grants_pb2.BINDING_LIMIT_ACCOUNT_MODEL_CAP,
    "key_inactive": grants_pb2.BINDING_LIMIT_KEY_INACTIVE,
}


class GrantsServicer(grants_pb2_grpc.GrantsServiceServicer):
    """Translates; the desk does the work."""

    def __init__(self, desk: GrantDesk) -> None:
        self._desk = desk

    async def OpenGrant(
        self,
        request: grants_pb2.OpenGrantRequest,
        context: Any,  # Any: grpc's own class
    ) -> grants_pb2.OpenGrantResponse:
        answer = await self._desk.open(command_from_open(request))
        if isinstance(answer, Refusal):
            return grants_pb2.OpenGrantResponse(refusal=refusal_to_pb(answer))
        return grants_pb2.OpenGrantResponse(grant=grant_to_pb(answer))

    async def RenewGrant(
        self,
        request: grants_pb2.RenewGrantRequest,
        context: Any,  # Any: grpc's own class
    ) -> grants_pb2.RenewGrantResponse:
        answer = await self._desk.renew(command_from_renew(request))
        if isinstance(answer, Refusal):
            return grants_pb2.RenewGrantResponse(refusal=refusal_to_pb(answer))
        return grants_pb2.RenewGrantResponse(grant=grant_to_pb(answer))

    async def ListRecalls(
        self,
        request: grants_pb2.ListRecallsRequest,
        context: Any,  # Any: grpc's own class
    ) -> grants_pb2.ListRecallsResponse:
        if len(request.account_ids) > ACCOUNTS_MAX:
            raise InvalidArgument.of("account_ids", f"names more than {ACCOUNTS_MAX} accounts")
        accounts = [AccountId(checked_id("account_ids", one)) for one in request.account_ids]
        recalls = await self._desk.recalls(accounts)
        return grants_pb2.ListRecallsResponse(
            recalls=[
                grants_pb2.Recall(account_id=account_id, key_id=key_id)
                for account_id, key_id in recalls
            ]
        )

    async def CloseGrant(
        self,
        request: grants_pb2.CloseGrantRequest,
        context: Any,  # Any: grpc's own class
    ) -> grants_pb2.CloseGrantResponse:
        closed = await self._desk.close(command_from_close(request))
        return grants_pb2.CloseGrantResponse(returned_nanousd=closed.returned_nanousd)


def command_from_open(request: grants_pb2.OpenGrantRequest) -> OpenGrant:
    """The command. Raises InvalidArgument."""
    return OpenGrant(
        GrantId(checked_id("grant_id", request.grant_id)),
        WorkerId(checked_id("worker_id", request.worker_id)),
        AccountId(checked_id("account_id", request.account_id)),
        KeyId(checked_id("key_id", request.key_id)),
        checked_amount("key_version", request.key_version, least=0),
        checked_amount("needed_nanousd", request.needed_nanousd, least=1),
        checked_amount("least_nanousd", request.least_nanousd, least=0),
        checked_amount("wanted_nanousd", request.wanted_nanousd, least=0),
        current_traceparent(),
        checked_text("model_id", request.model_id, length_max=ID_LENGTH_MAX),
    )


def command_from_renew(request: grants_pb2.RenewGrantRequest) -> RenewGrant:
    """The command. Raises InvalidArgument."""
    if request.needed_nanousd and request.give_back_nanousd:
        raise InvalidArgument.of("give_back_nanousd", "excludes needed_nanousd")
    return RenewGrant(
        GrantId(checked_id("grant_id", request.grant_id)),
        WorkerId(checked_id("worker_id", request.worker_id)),
        AccountId(checked_id("account_id", request.account_id)),
        checked_amount("number", request.number, least=1),
        checked_amount("key_version", request.key_version, least=0),
        checked_amount("needed_nanousd", request.needed_nanousd, least=0),
        checked_amount("least_nanousd", request.least_nanousd, least=0),
        checked_amount("wanted_nanousd", request.wanted_nanousd, least=0),
        checked_amount("give_back_nanousd", request.give_back_nanousd, least=0),
        current_traceparent(),
    )


def command_from_close(request: grants_pb2.CloseGrantRequest) -> CloseGrant:
    """The command. Raises InvalidArgument."""
    return CloseGrant(
        GrantId(checked_id("grant_id", request.grant_id)),
        WorkerId(checked_id("worker_id", request.worker_id)),
        AccountId(checked_id("account_id", request.account_id)),
        checked_amount("spent_nanousd", request.spent_nanousd, least=0),
        current_traceparent(),
    )


def grant_to_pb(grant: Grant) -> grants_pb2.Grant:
    """The grant's message."""
    return grants_pb2.Grant(
        grant_id=grant.grant_id,
        amount_nanousd=grant.amount_nanousd,
        expires_at_ms=grant.expires_at_ms,
    )


def refusal_to_pb(refusal: Refusal) -> grants_pb2.Refusal:
    """The refusal's message."""
    return grants_pb2.Refusal(
        limit=_LIMITS[refusal.limit],
        held=refusal.held,
        retry_after_ms=refusal.retry_after_ms,
        available_nanousd=refusal.available_nanousd,
    )
