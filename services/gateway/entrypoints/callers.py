"""Who calls a route about an account: the holder of an API key, or a person who is logged in."""

from __future__ import annotations

from starlette.requests import Request

from services.common.errors import Forbidden, Unauthorized
from services.common.security.tokens import Principal
from services.gateway.adapters.account_reads_grpc import call_principal_from_key
from services.gateway.auth import KEY_PREFIX
from services.gateway.entrypoints.app import caller_of, head_of, reads_of
from services.gateway.ports import KeySettings

SESSION_PREFIX = b"mss_"
_TOKEN_BYTES_MAX = 256


async def account_caller_of(request: Request) -> Principal:
    """Dependency: whom the services are asked for. Raises Unauthorized, Forbidden, Unavailable."""
    token = _session_token(request)
    if token:
        return await reads_of(request).sessions.holder(token)
    return call_principal_from_key(caller_of(request))


async def person_of(request: Request) -> Principal:
    """Dependency: the person who is logged in. Forbidden for an API key, whatever it may else."""
    token = _session_token(request)
    if token:
        return await reads_of(request).sessions.holder(token)
    authorization = head_of(request).authorization or b""
    if authorization.partition(b" ")[2].strip().startswith(KEY_PREFIX):
        caller_of(request)
        raise Forbidden("an API key cannot manage keys: send a session's token")
    raise Unauthorized("send 'Authorization: Bearer <session token>'")


async def settings_of(request: Request) -> KeySettings:
    """Dependency: what the key that asks may use; a person sees what the account may."""
    token = _session_token(request)
    if token:
        await reads_of(request).sessions.holder(token)
        return KeySettings()
    return caller_of(request).settings


def _session_token(request: Request) -> str:
    """The session's token of the head; empty where there is none."""
    scheme, _, secret = (head_of(request).authorization or b"").partition(b" ")
    secret = secret.strip()
    fits = len(secret) <= _TOKEN_BYTES_MAX and secret.isascii()
    if scheme.lower() != b"bearer" or not secret.startswith(SESSION_PREFIX) or not fits:
        return ""
    return secret.decode()
