"""The gRPC API of analysts: who may make, see and revoke them."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from services.common.errors import Forbidden
from services.common.grpc import Access, principal
from services.common.pb.mesh.usage.v1 import analysts_pb2, analysts_pb2_grpc
from services.usage.analysts import Analysts
from services.usage.domain.analyst import Analyst

_ADMINS = Access(services=frozenset({"dashboard", "cli"}), principal="user", role_min="admin")
POLICIES = {
    f"/mesh.usage.v1.AnalystService/{method}": _ADMINS
    for method in ("CreateAnalyst", "ListAnalysts", "RevokeAnalyst")
}

# Any: nothing here reads or writes messages through the context.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AnalystServicer(analysts_pb2_grpc.AnalystServiceServicer):
    """`mesh.usage.v1.AnalystService`."""

    def __init__(self, analysts: Analysts) -> None:
        self._analysts = analysts

    async def CreateAnalyst(
        self, request: analysts_pb2.CreateAnalystRequest, _context: Context
    ) -> analysts_pb2.CreateAnalystResponse:
        analyst, token = await self._analysts.create(
            account_of_principal(),
            name=request.name,
            created_by=principal().user_id,
            expires_in_s=request.expires_in_s,
        )
        return analysts_pb2.CreateAnalystResponse(analyst=_to_wire(analyst), plain_token=token)

    async def ListAnalysts(
        self, _request: analysts_pb2.ListAnalystsRequest, _context: Context
    ) -> analysts_pb2.ListAnalystsResponse:
        found = self._analysts.list(account_of_principal())
        return analysts_pb2.ListAnalystsResponse(analysts=[_to_wire(a) for a in found])

    async def RevokeAnalyst(
        self, request: analysts_pb2.RevokeAnalystRequest, _context: Context
    ) -> analysts_pb2.Analyst:
        return _to_wire(await self._analysts.revoke(account_of_principal(), request.analyst_id))


def account_of_principal() -> str:
    """The account that the call is about. Raises Forbidden where the principal acts for none."""
    account_id = principal().account_id
    if not account_id:
        raise Forbidden("the principal acts for no account")
    return account_id


def _to_wire(analyst: Analyst) -> analysts_pb2.Analyst:
    return analysts_pb2.Analyst(
        analyst_id=analyst.analyst_id,
        account_id=analyst.account_id,
        name=analyst.name,
        created_by=analyst.created_by,
        created_at_ms=analyst.created_at_ms,
        expires_at_ms=analyst.expires_at_ms,
        revoked_at_ms=analyst.revoked_at_ms,
    )
