"""Mixed traffic of many accounts against one worker: what callers do, and what comes of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from services.common.ids import AccountId, KeyId, ModelId, UserId, new_id
from services.common.security.tokens import Principal
from services.gateway.ports import KeySettings, ModelCapabilities
from services.gateway.template_store import TemplateFields
from tests.fixtures.gateway import USD, GatewayHarness, scripted_model

Json = dict[str, Any]  # Any: JSON
TEMPLATE = "soak"
# Fails once an hour and then answers; those below it always fail.
_FLAKY = "500.ok"
_FAILING = ("500", "429", "close", "early", "frame", "garbage", "refuse", "throttle", "html")


@dataclass(frozen=True, slots=True)
class Caller:
    """A key and whose it is."""

    secret: str
    account_id: AccountId
    key_id: KeyId


class Traffic:
    """The callers of one worker and what they ask; `statuses` counts what they were told."""

    def __init__(self, gateway: GatewayHarness, chance: random.Random) -> None:
        self._gateway = gateway
        self._chance = chance
        self._callers: list[Caller] = []
        self.statuses: Counter[str] = Counter()
        self._turn = 0

    async def prepare(self) -> None:
        """What callers find: a template, a model that fails at first, and one of embeddings."""
        operator = Principal("operator", "")
        fields = TemplateFields(TEMPLATE, system="Be {{ tone }}.", model="vendor/ok")
        await self._gateway.templates.create(operator, fields)
        self._gateway.catalogue.add(scripted_model(_FLAKY))
        able = ModelCapabilities(embeddings=True)
        embed = scripted_model("embed", model_type="embedding", capabilities=able)
        self._gateway.catalogue.add(embed)

    def arrive(self, count: int) -> None:
        """New accounts with a key each; every fifth is limited, every seventh has hardly money."""
        for number in range(count):
            limited = number % 5 == 0
            settings = KeySettings(rpm_limit=3 if limited else None)
            account_id, key_id = AccountId(new_id("acc")), KeyId(new_id("key"))
            secret = self._gateway.keys.issue(
                settings, account_id=account_id, key_id=key_id, user_id=UserId(new_id("usr"))
            )
            self._gateway.grants.balances[account_id] = 1_000 if number % 7 == 6 else USD
            if limited:
                self._gateway.quota_source.limits[key_id] = {"rpm": 3}
            self._callers.append(Caller(secret, account_id, key_id))

    def leave(self, count: int) -> None:
        """The oldest go; billing forgets them."""
        gone, self._callers = self._callers[:count], self._callers[count:]
        for caller in gone:
            self._gateway.keys.revoke(caller.secret)
            self._gateway.quota_source.limits.pop(caller.key_id, None)
            self._gateway.grants.balances.pop(caller.account_id, None)
            self._gateway.grants.key_spent.pop(caller.key_id, None)

    async def one(self, http: aiohttp.ClientSession) -> None:
        """The next kind of request, by anyone."""
        acts = self._acts()
        act = acts[self._turn % len(acts)]
        self._turn += 1
        said = await act(http)
        self.statuses[said] += 1

    def _acts(self) -> list[Callable[[aiohttp.ClientSession], Awaitable[str]]]:
        return [
            lambda http: self._chat(http, model="vendor/ok", stream=True),
            lambda http: self._chat(http, model="vendor/ok", temperature=0.7),
            lambda http: self._chat(http, model="vendor/free", stream=True),
            lambda http: self._chat(http, model="vendor/no-usage", temperature=0.7),
            lambda http: self._chat(http, model="vendor/essay", stream=True, temperature=0.7),
            lambda http: self._chat(http, model="vendor/two-tools", stream=True, temperature=0.7),
            lambda http: self._chat(http, model=f"vendor/{_FLAKY}", temperature=0.7),
            lambda http: self._chat(http, model=self._failing(), stream=True, temperature=0.7),
            lambda http: self._chat(
                http, model=self._failing(), models=["vendor/ok"], temperature=0.7
            ),
            lambda http: self._chat(http, template=TEMPLATE, variables={"tone": "brief"}),
            lambda http: self._chat(http, model="vendor/no-such", stream=True),
            lambda http: self.hang_up(http, "vendor/slow"),
            lambda http: self.hang_up(http, "vendor/hang"),
            self._messages,
            self._responses,
            self._embeddings,
            self._compare,
            self._batch,
            self._background,
            self._again,
            self._stranger,
        ]

    def _failing(self) -> str:
        return ModelId(f"vendor/{self._chance.choice(_FAILING)}")

    async def _chat(self, http: aiohttp.ClientSession, **body: Any) -> str:  # Any: JSON
        return await self._post(http, "/v1/chat/completions", {**self._question(), **body})

    async def _messages(self, http: aiohttp.ClientSession) -> str:
        body = {"model": "vendor/ok", "max_tokens": 50, "stream": self._chance.random() < 0.5}
        return await self._post(http, "/v1/messages", {**self._question(), **body})

    async def _responses(self, http: aiohttp.ClientSession) -> str:
        body = {"model": "vendor/ok", "input": "Hello", "store": False}
        return await self._post(http, "/v1/responses", {**body, "stream": True})

    async def _embeddings(self, http: aiohttp.ClientSession) -> str:
        return await self._post(http, "/v1/embeddings", {"model": "vendor/embed", "input": "x"})

    async def _compare(self, http: aiohttp.ClientSession) -> str:
        body = {"models": ["vendor/ok", self._failing()], "stream": self._chance.random() < 0.5}
        return await self._post(http, "/v1/chat/compare", {**self._question(), **body})

    async def _batch(self, http: aiohttp.ClientSession) -> str:
        model = self._chance.choice(["vendor/ok", "vendor/no-usage", "vendor/500"])
        lines = [
            {
                "custom_id": str(number),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {**self._question(), "model": model},
            }
            for number in range(3)
        ]
        return await self._post(http, "/v1/batches", {"requests": lines})

    async def _background(self, http: aiohttp.ClientSession) -> str:
        body = {"model": "vendor/ok", "input": "Hello", "background": True}
        return await self._post(http, "/v1/responses", body)

    async def _again(self, http: aiohttp.ClientSession) -> str:
        """The same question twice: the second answer is the kept one."""
        caller = self._anyone()
        body = {**self._question(), "model": "vendor/ok"}
        await self._post(http, "/v1/chat/completions", body, caller)
        return await self._post(http, "/v1/chat/completions", body, caller)

    async def _stranger(self, http: aiohttp.ClientSession) -> str:
        nobody = Caller(new_id("rsk"), AccountId(""), KeyId(""))
        body = {**self._question(), "model": "vendor/ok"}
        return await self._post(http, "/v1/chat/completions", body, nobody)

    async def hang_up(self, http: aiohttp.ClientSession, model: str) -> str:
        """Leaves in the middle of an answer, or before there is any."""
        body = {**self._question(), "model": model, "stream": True, "max_tokens": 100}
        try:
            async with asyncio.timeout(0.2):
                url = self._gateway.url + "/v1/chat/completions"
                async with http.post(url, json=body, headers=_headers(self._anyone())) as answer:
                    if answer.status != 200:
                        return str(answer.status)
                    await answer.content.readline()
                    answer.close()
        except TimeoutError:
            pass
        return "hung up"

    async def stay(self, http: aiohttp.ClientSession) -> None:
        """A stream that lasts until the provider is told to go on: its grant has to be renewed."""
        body = {**self._question(), "model": "vendor/slow", "stream": True, "max_tokens": 100}
        self.statuses[await self._post(http, "/v1/chat/completions", body)] += 1

    async def _post(
        self, http: aiohttp.ClientSession, path: str, body: Json, caller: Caller | None = None
    ) -> str:
        headers = _headers(caller or self._anyone())
        async with http.post(self._gateway.url + path, json=body, headers=headers) as answer:
            await answer.read()
            cached = answer.headers.get("X-Cache") == "HIT"
            return f"{answer.status} cached" if cached else str(answer.status)

    def _question(self) -> Json:
        content = f"What is {self._chance.randrange(10**9)}? " + "word " * self._chance.randrange(
            60
        )
        return {"messages": [{"role": "user", "content": content}]}

    def _anyone(self) -> Caller:
        return self._chance.choice(self._callers)


def _headers(caller: Caller) -> dict[str, str]:
    return {"Authorization": f"Bearer {caller.secret}"}
