"""Who calls: from the Authorization header to a principal, by one dictionary look-up."""

from __future__ import annotations

import hashlib

from services.common.errors import Forbidden, Unauthorized
from services.gateway.ports import KeyDirectory, KeyPrincipal

KEY_PREFIX = b"rsk_"
KEY_BYTES_MAX = 128


def authenticate(authorization: bytes | None, keys: KeyDirectory, now_ms: int) -> KeyPrincipal:
    """The key's principal, suspended ones included; Unauthorized where there is no usable key."""
    if not authorization:
        raise Unauthorized("no API key: send 'Authorization: Bearer rsk_...'")
    scheme, _, secret = authorization.partition(b" ")
    secret = secret.strip()
    if scheme.lower() != b"bearer" or not secret.startswith(KEY_PREFIX):
        raise Unauthorized("the API key is malformed: send 'Authorization: Bearer rsk_...'")
    found = None
    if len(secret) <= KEY_BYTES_MAX:
        found = keys.find(hashlib.sha256(secret).hexdigest())
    if found is None or found.expired(now_ms):
        raise Unauthorized("the API key is unknown, revoked or expired")
    return found


def pinned_version(authorization: bytes | None, keys: KeyDirectory) -> str:
    """The API version that the owner of this key pinned; empty where there is none, or no key."""
    if not authorization:
        return ""
    secret = authorization.partition(b" ")[2].strip()
    if not secret.startswith(KEY_PREFIX) or len(secret) > KEY_BYTES_MAX:
        return ""
    found = keys.find(hashlib.sha256(secret).hexdigest())
    return found.settings.api_version if found is not None else ""


def require_active(principal: KeyPrincipal) -> None:
    """Raises Forbidden where the key or its account is suspended."""
    if principal.account_suspended:
        raise Forbidden("this account is suspended")
    if principal.suspended:
        raise Forbidden("this API key is suspended")
