"""Service tokens: who calls a gRPC method, and for whom.

A token is `base64url(json claims).base64url(HMAC-SHA256 of the first part)`. Claims: `iss` the
calling service, `iat` and `exp` in Unix seconds, and `sub` the principal, where the call is made
for one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import orjson

from services.common.clock import Clock, SystemClock
from services.common.errors import Unauthorized

PrincipalKind = Literal["user", "key", "operator"]
CACHE_SIZE_MAX = 4096
CLOCK_SKEW_MS = 30_000
SECRET_LENGTH_MIN = 32
TOKEN_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a call is made for. The account a call is about is this one's, never a request field."""

    kind: PrincipalKind
    account_id: str
    user_id: str = ""
    key_id: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """The verified caller: which service, and for whom (None where it acts for itself)."""

    service: str
    principal: Principal | None = None


class TokenSigner:
    """Mints the tokens of one service; a token is made once and used for half its life."""

    def __init__(self, secret: str, service: str, *, clock: Clock | None = None) -> None:
        self._secret = _checked(secret)
        self._service = service
        self._clock = clock or SystemClock()
        self._minted: OrderedDict[tuple[Principal | None, int], tuple[str, int]] = OrderedDict()

    def mint(self, principal: Principal | None = None, ttl_s: int = 300) -> str:
        """A token that is valid for at least half of `ttl_s` seconds from now."""
        now_ms = self._clock.now_ms()
        cached = self._minted.get((principal, ttl_s))
        if cached is not None and now_ms < cached[1]:
            return cached[0]
        claims: dict[str, object] = {"iss": self._service, "iat": now_ms // 1000}
        claims["exp"] = now_ms // 1000 + ttl_s
        if principal is not None:
            claims["sub"] = asdict(principal)
        body = _encode(orjson.dumps(claims))
        token = f"{body}.{_encode(_mac(self._secret, body))}"
        self._minted[(principal, ttl_s)] = (token, now_ms + ttl_s * 500)
        if len(self._minted) > CACHE_SIZE_MAX:
            self._minted.popitem(last=False)
        return token


class TokenVerifier:
    """Verifies tokens; what was verified is remembered (bounded) until it expires."""

    def __init__(self, secret: str, *, clock: Clock | None = None) -> None:
        self._secret = _checked(secret)
        self._clock = clock or SystemClock()
        self._known: OrderedDict[str, tuple[CallIdentity, int]] = OrderedDict()

    def verify(self, token: str) -> CallIdentity:
        """The identity of a valid token. Raises Unauthorized on any other, never saying why in
        detail.
        """
        now_ms = self._clock.now_ms()
        known = self._known.get(token)
        if known is None:
            known = self._parse(token, now_ms)
            self._known[token] = known
            if len(self._known) > CACHE_SIZE_MAX:
                self._known.popitem(last=False)
        identity, expires_at_ms = known
        if now_ms >= expires_at_ms:
            self._known.pop(token, None)
            raise Unauthorized("the service token has expired")
        return identity

    def _parse(self, token: str, now_ms: int) -> tuple[CallIdentity, int]:
        body, dot, mac = token.partition(".")
        try:
            given = _decode(mac)
        except (binascii.Error, ValueError):
            raise Unauthorized("not a service token") from None
        if not dot or len(token) > TOKEN_LENGTH_MAX:
            raise Unauthorized("not a service token")
        if not hmac.compare_digest(given, _mac(self._secret, body)):
            raise Unauthorized("the signature of the service token is wrong")
        claims = orjson.loads(_decode(body))
        if claims["iat"] * 1000 > now_ms + CLOCK_SKEW_MS:
            raise Unauthorized("the service token is from the future")
        subject = claims.get("sub")
        principal = None if subject is None else Principal(**subject)
        if principal is not None and principal.kind not in get_args(PrincipalKind):
            raise Unauthorized("the service token is for an unknown kind of principal")
        return CallIdentity(claims["iss"], principal), claims["exp"] * 1000


def _checked(secret: str) -> bytes:
    if len(secret) < SECRET_LENGTH_MIN:
        raise ValueError(f"the service secret has fewer than {SECRET_LENGTH_MIN} characters")
    return secret.encode()


def _mac(secret: bytes, body: str) -> bytes:
    return hmac.digest(secret, body.encode(), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
