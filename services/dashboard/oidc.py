"""A log-in provider (OpenID Connect): its addresses, its keys, and who somebody is there.

Authorization code flow with PKCE. What the provider says is believed only after its signature,
issuer, audience, expiry and nonce were checked; keys are fetched again when a token names one that
is not known, so that a provider may change them at any time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from services.common.clock import Clock
from services.common.errors import Unauthorized, Unavailable
from services.dashboard.config import DashboardSettings

# Signatures that only the provider can make: none with a shared secret, and never none at all.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
LEEWAY_S = 60
# How long ago a log-in may be that was to be made anew.
FRESH_S = 300
TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1024 * 1024
KEYS_MAX = 100
# How often keys may be asked for because a token named an unknown one.
KEYS_AGE_MIN_S = 10.0
Json = dict[str, Any]  # Any: JSON
REFUSED = "The log-in provider's answer could not be verified."


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """Who somebody is at the provider, checked."""

    issuer: str
    subject: str
    email: str
    email_verified: bool
    name: str


@dataclass(frozen=True, slots=True)
class Provider:
    """The addresses of the provider."""

    authorization: str
    token: str
    keys: str
    userinfo: str
    secret_in_body: bool


def challenge_of(verifier: str) -> str:
    """The PKCE challenge (S256) of a verifier."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class OidcClient:
    """The panel as a client of one provider. Raises Unavailable where the provider does not answer,
    and Unauthorized where its answer is not to be believed.
    """

    def __init__(self, settings: DashboardSettings, clock: Clock) -> None:
        self._issuer = settings.oidc_issuer.rstrip("/")
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret.get_secret_value()
        self._scopes = settings.oidc_scopes
        self._redirect_uri = f"{settings.public_url.rstrip('/')}/api/oidc/callback"
        self._clock = clock
        self._provider: Provider | None = None
        self._keys: list[Key] = []
        self._keys_at_s: float | None = None
        self._fetching = asyncio.Lock()

    async def address(self, *, state: str, nonce: str, verifier: str, again: bool = False) -> str:
        """Where the browser is sent to log in; `again` whatever session it has there."""
        provider = await self._discovered()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self._scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        if again:
            query |= {"prompt": "login", "max_age": "0"}
        joined = "&" if urlsplit(provider.authorization).query else "?"
        return f"{provider.authorization}{joined}{urlencode(query)}"

    async def person(
        self, *, code: str, nonce: str, verifier: str, again: bool = False
    ) -> KnownPerson:
        """Who the code stands for; `again` where they must have logged in just now."""
        provider = await self._discovered()
        tokens = await self._exchange(provider, code, verifier)
        claims = await self._checked(str(tokens.get("id_token", "")), nonce)
        subject = claims["sub"]
        if again and not self._just_now(claims):
            raise Unauthorized("The log-in provider did not ask you to log in again.")
        if "email" not in claims and provider.userinfo:
            told = await self._fetch(
                "GET",
                provider.userinfo,
                headers={"authorization": f"Bearer {tokens.get('access_token', '')}"},
            )
            # Otherwise it speaks of somebody else.
            if told.get("sub") != subject:
                raise Unauthorized(REFUSED)
            claims = {**told, **claims}
        return KnownPerson(
            issuer=self._issuer,
            subject=subject,
            email=str(claims.get("email", "")),
            # Some providers write it as text.
            email_verified=claims.get("email_verified") in (True, "true"),
            name=str(claims.get("name", "")),
        )

    def _just_now(self, claims: Json) -> bool:
        """Whether the log-in is as fresh as it was asked for. A provider that tells no time of it
        was asked for a log-in all the same.
        """
        at_s = claims.get("auth_time", claims["iat"])
        return isinstance(at_s, int | float) and self._clock.now_ms() / 1_000 - at_s <= FRESH_S

    async def _discovered(self) -> Provider:
        if self._provider is None:
            address = f"{self._issuer}/.well-known/openid-configuration"
            told = await self._fetch("GET", address)
            if str(told.get("issuer", "")).rstrip("/") != self._issuer:
                raise Unauthorized("The log-in provider says that it is another one.")
            methods = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            self._provider = Provider(
                authorization=self._endpoint(told, "authorization_endpoint"),
                token=self._endpoint(told, "token_endpoint"),
                keys=self._endpoint(told, "jwks_uri"),
                userinfo=str(told.get("userinfo_endpoint", "")),
                secret_in_body="client_secret_basic" not in methods,
            )
        return self._provider

    def _endpoint(self, told: Json, name: str) -> str:
        address = str(told.get(name, ""))
        # Never weaker than the issuer itself.
        if not address.startswith(f"{urlsplit(self._issuer).scheme}://"):
            raise Unauthorized(f"The log-in provider's {name} is not to be used.")
        return address

    async def _exchange(self, provider: Provider, code: str, verifier: str) -> Json:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "client_id": self._client_id,
            "code_verifier": verifier,
        }
        headers = {}
        if self._secret and provider.secret_in_body:
            form["client_secret"] = self._secret
        elif self._secret:
            pair = f"{quote(self._client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return await self._fetch("POST", provider.token, data=form, headers=headers)

    async def _checked(self, token: str, nonce: str) -> Json:
        """The claims of an ID token that is what it says."""
        try:
            header = jws.extract_compact(token.encode()).headers()
            found = await self._signed(token, header)
            registry = jwt.JWTClaimsRegistry(
                now=self._clock.now_ms() // 1_000,
                leeway=LEEWAY_S,
                iss={"essential": True, "values": [self._issuer, f"{self._issuer}/"]},
                aud={"essential": True, "value": self._client_id},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": nonce},
            )
            registry.validate(found)
        except (JoseError, ValueError) as error:
            raise Unauthorized(REFUSED) from error
        audiences = found["aud"] if isinstance(found["aud"], list) else [found["aud"]]
        authorised = found.get("azp", self._client_id if len(audiences) == 1 else "")
        if authorised != self._client_id or not isinstance(found["sub"], str):
            raise Unauthorized(REFUSED)
        return found

    async def _signed(self, token: str, header: Mapping[str, object]) -> Json:
        """The claims, signed with one of the provider's keys. Raises JoseError."""
        for key in await self._keys_for(header.get("kid")):
            try:
                return dict(jwt.decode(token, key, algorithms=list(ALGORITHMS)).claims)
            except JoseError:
                continue
        raise Unauthorized(REFUSED)

    async def _keys_for(self, kid: object) -> list[Key]:
        """The key of this name, or all keys for a token that names none."""
        known = [key for key in self._keys if kid is None or key.kid == kid]
        if known:
            return known
        async with self._fetching:
            now_s = self._clock.monotonic_s()
            if self._keys_at_s is None or now_s - self._keys_at_s >= KEYS_AGE_MIN_S:
                provider = await self._discovered()
                self._keys = keys_of(await self._fetch("GET", provider.keys))
                self._keys_at_s = now_s
        return [key for key in self._keys if kid is None or key.kid == kid]

    async def _fetch(
        self,
        method: str,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> Json:
        """One answer, a JSON object of bounded length. Follows no redirect: secrets go where they
        are meant to.
        """
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.request(
                    method, address, data=data, headers=headers, allow_redirects=False
                ) as answer,
            ):
                raw = await answer.content.read(ANSWER_BYTES_MAX + 1)
                while len(raw) <= ANSWER_BYTES_MAX and not answer.content.at_eof():
                    raw += await answer.content.read(ANSWER_BYTES_MAX + 1)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("The log-in provider does not answer.") from error
        if answer.status >= 500:
            raise Unavailable("The log-in provider does not answer.")
        if answer.status != 200 or len(raw) > ANSWER_BYTES_MAX:
            raise Unauthorized("The log-in provider refused.")
        try:
            told = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Unauthorized(REFUSED) from error
        if not isinstance(told, dict):
            raise Unauthorized(REFUSED)
        return told


def keys_of(told: Json) -> list[Key]:
    """The public keys for signatures in a set; those of other kinds are left out."""
    found: list[Key] = []
    for entry in list(told.get("keys", []))[:KEYS_MAX]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        # A shared secret published by mistake is nobody's signature.
        if entry.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        try:
            found.append(JWKRegistry.import_key(entry))
        except (JoseError, ValueError):
            continue
    return found
