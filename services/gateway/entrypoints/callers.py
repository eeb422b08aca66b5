"""Who calls a route about an account: the holder of an API key."""

from __future__ import annotations

from starlette.requests import Request

from services.common.security.tokens import Principal
from services.gateway.adapters.account_reads_grpc import call_principal_from_key
from services.gateway.entrypoints.app import caller_of


async def account_caller_of(request: Request) -> Principal:
    """Dependency: whom the services are asked for. Raises Unauthorized, Forbidden, Unavailable."""
    return call_principal_from_key(caller_of(request))
