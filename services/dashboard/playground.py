"""Requests of the panel's playground: sent through the public API with an API key of the person's
own, so that they are limited, billed and logged like any other.

The key's secret stays in this process. Where it is lost (a restart, another replica), the key is
rotated to a new one; a key that is refused is made again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from services.common.clock import Clock
from services.common.errors import AppError, Unavailable
from services.common.pb.mesh.accounts.v1 import keys_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from services.common.security.tokens import Principal
from services.dashboard.ports import Backends

LABEL_PREFIX = "Playground of "
LABEL_LENGTH_MAX = 100
SECRETS_MAX = 10_000
KEYS_READ_MAX = 200
REFUSED = frozenset({401, 403})
# A new key is in force at every gateway within a second; a request may be sooner.
TRIES = 12
TRY_PAUSE_S = 0.25
CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class _Owner:
    account_id: str
    user_id: str


class Playground:
    """Sends chat requests for people who are logged in."""

    def __init__(self, backends: Backends, clock: Clock, *, api_url: str) -> None:
        self._backends = backends
        self._client: aiohttp.ClientSession | None = None
        self._clock = clock
        self._url = f"{api_url.rstrip('/')}/v1/chat/completions"
        self._secrets: OrderedDict[_Owner, str] = OrderedDict()
        self._making = asyncio.Lock()

    async def start(self) -> None:
        """Opens the pool of connections to the gateway."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        self._client = aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    async def stop(self) -> None:
        """Closes it; requests under way break off."""
        if self._client is not None:
            await self._client.close()

    @asynccontextmanager
    async def chat(
        self, caller: Principal, email: str, body: bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The public API's answer to `body`, whatever its status, still to be read.

        Raises Forbidden where the person may not make keys, Unavailable where no gateway answers.
        """
        response = await self._send(caller, email, body)
        try:
            yield response
        finally:
            response.close()

    async def _send(self, caller: Principal, email: str, body: bytes) -> aiohttp.ClientResponse:
        owner = _Owner(caller.account_id, caller.user_id)
        known = owner in self._secrets
        response = await self._post(await self._secret(caller, email), body)
        if known and response.status in REFUSED:
            # Suspended or rotated behind our back.
            response.close()
            self._secrets.pop(owner, None)
            known = False
            response = await self._post(await self._secret(caller, email), body)
        for _ in range(TRIES):
            if known or response.status != 401:
                break
            response.close()
            await self._clock.sleep(TRY_PAUSE_S)
            response = await self._post(self._secrets[owner], body)
        return response

    async def _post(self, secret: str, body: bytes) -> aiohttp.ClientResponse:
        assert self._client is not None, "start it first"
        headers: Mapping[str, str] = {
            "authorization": f"Bearer {secret}",
            "content-type": "application/json",
        }
        try:
            return await self._client.post(self._url, data=body, headers=headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("no gateway can be reached", retry_after_s=1) from error

    async def _secret(self, caller: Principal, email: str) -> str:
        owner = _Owner(caller.account_id, caller.user_id)
        found = self._secrets.get(owner)
        if found is not None:
            self._secrets.move_to_end(owner)
            return found
        async with self._making:
            if owner not in self._secrets:
                self._secrets[owner] = await self._new_secret(caller, email)
                while len(self._secrets) > SECRETS_MAX:
                    self._secrets.popitem(last=False)
            return self._secrets[owner]

    async def _new_secret(self, caller: Principal, email: str) -> str:
        label = f"{LABEL_PREFIX}{email}"[:LABEL_LENGTH_MAX]
        existing = await self._key_named(caller, label)
        if existing is not None:
            try:
                answer = await self._backends.accounts_channel.call(
                    self._backends.keys.RotateKey,
                    keys_pb2.RotateKeyRequest(key_id=existing.key_id, grace_s=0),
                    principal=caller,
                )
            except AppError:
                # It cannot be rotated any more (expired, say): another one takes its place.
                pass
            else:
                return answer.plain_key
        made = await self._backends.accounts_channel.call(
            self._backends.keys.CreateKey,
            keys_pb2.CreateKeyRequest(
                settings=events_pb2.KeySettings(
                    label=label, spend_cap_window=common_pb2.CAP_WINDOW_LIFETIME
                )
            ),
            principal=caller,
        )
        return made.plain_key

    async def _key_named(self, caller: Principal, label: str) -> keys_pb2.Key | None:
        answer = await self._backends.accounts_channel.call(
            self._backends.keys.ListKeys,
            keys_pb2.ListKeysRequest(page=common_pb2.PageRequest(page_size=KEYS_READ_MAX)),
            principal=caller,
        )
        fitting = (key for key in answer.keys if key.settings.label == label and not key.suspended)
        return next(fitting, None)
