"""The operator of a stack by gRPC: the scripted provider, accounts, keys, credit and caps.

One set of channels, because a process of `mesh admin` for every command would cost more than a
load. What may be repeated is repeated until it is answered, however many services are killed
meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from services.cli.context import Services, operator, services
from services.common.errors import AppError
from services.common.ids import new_id
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.catalog.v1 import catalog_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as account_events_pb2
from services.common.pb.mesh.events.v1 import catalog_pb2 as catalog_events_pb2
from tests.e2e.load import COMPLETION_NANOUSD_PER_TOKEN, PROMPT_NANOUSD_PER_TOKEN
from tests.e2e.stack import Stack

CALL_TIMEOUT_S = 4.0
RETRY_S = 0.25
TOKENS_PER_RATE = 1_000_000
# What the upstream does when it is asked for a model of this name (`tests/fixtures/upstream.py`).
SCRIPTS = ("ok", "slow", "500", "close", "hang", "refuse")


@dataclass(slots=True)
class Account:
    """An account, its keys (plain text by key id), and all that it was credited in nano-dollars."""

    account_id: str
    credited_nanousd: int = 0
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operator:
    """Calls the services of one stack; AppError where one refuses or is away."""

    found: Services

    async def call(self, service: str, method: str, request: Any, account: str = "") -> Any:
        """One call of e.g. `billing`, `GetBalance`. Any: the messages of that method."""
        stubs = self.found.keys if service == "keys" else getattr(self.found, service)
        channel = self.found.channels["accounts" if service == "keys" else service]
        return await channel.call(
            getattr(stubs, method), request, principal=operator(account), timeout_s=CALL_TIMEOUT_S
        )

    async def insist(self, service: str, method: str, request: Any, account: str = "") -> Any:
        """The same, again until it is answered; for requests that may be repeated."""
        while True:
            try:
                return await self.call(service, method, request, account)
            except AppError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(RETRY_S)

    async def open_market(self, base_url: str) -> None:
        """Registers the scripted provider and its models, priced and free."""
        settings = catalog_events_pb2.ProviderSettings(
            name="scripted",
            kind=catalog_events_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE,
            base_url=base_url,
            enabled=True,
            timeout_ms=300_000,
        )
        request = catalog_pb2.PutProviderRequest(provider_id="scripted", settings=settings)
        await self.call("catalog", "PutProvider", request)
        for script in SCRIPTS:
            await self.put_model(f"test/{script}-free", script, rates=(0, 0))
            rates = (PROMPT_NANOUSD_PER_TOKEN, COMPLETION_NANOUSD_PER_TOKEN)
            await self.put_model(f"test/{script}-priced", script, rates=rates)

    async def put_model(self, model_id: str, script: str, *, rates: tuple[int, int]) -> None:
        """A model of that provider; nano-dollars for a prompt and a completion token."""
        settings = catalog_events_pb2.ModelSettings(
            name=model_id,
            brand="test",
            provider_id="scripted",
            upstream_model=script,
            context_length=8_192,
            max_output_tokens=1_024,
            input_modalities=["text"],
            output_modalities=["text"],
            capabilities=catalog_events_pb2.ModelCapabilities(streaming=True, system_prompt=True),
            enabled=True,
            model_type="text",
        )
        model = catalog_pb2.PutModelRequest(model_id=model_id, settings=settings)
        await self.call("catalog", "PutModel", model)
        kinds = (common_pb2.TOKEN_KIND_PROMPT, common_pb2.TOKEN_KIND_COMPLETION)
        price = catalog_pb2.PublishPriceRequest(
            model_id=model_id,
            rates=[
                common_pb2.Rate(kind=kind, nanousd_per_million=rate * TOKENS_PER_RATE)
                for kind, rate in zip(kinds, rates, strict=True)
            ],
            source="test",
        )
        await self.call("catalog", "PublishPrice", price)

    async def new_account(self, name: str, *, nanousd: int) -> Account:
        """An account with that much credit and no key yet."""
        request = accounts_pb2.SignUpRequest(
            email=f"{name}@example.com", password="a long password", name=name
        )
        channel = self.found.channels["accounts"]
        answer = await channel.call(self.found.accounts.SignUp, request, timeout_s=15)
        customer = Account(answer.principal.account_id)
        await self.credit(customer, nanousd)
        return customer

    async def new_key(
        self, customer: Account, *, cap_nanousd: int | None = None, window: int = 0
    ) -> str:
        """A key of that account; its id."""
        settings = account_events_pb2.KeySettings(label="test")
        if cap_nanousd is not None:
            settings.spend_cap_nanousd = cap_nanousd
            settings.spend_cap_window = common_pb2.CapWindow.ValueType(window)
        answer = await self.call(
            "keys", "CreateKey", keys_pb2.CreateKeyRequest(settings=settings), customer.account_id
        )
        customer.keys[answer.key.key_id] = answer.plain_key
        return str(answer.key.key_id)

    async def credit(self, customer: Account, nanousd: int) -> None:
        """Credits the account once, however often it has to be said."""
        request = billing_pb2.CreditAccountRequest(
            amount_nanousd=nanousd, reason="test", idempotency_key=new_id("test")
        )
        await self.insist("billing", "CreditAccount", request, customer.account_id)
        customer.credited_nanousd += nanousd

    async def set_cap(self, customer: Account, key_id: str, cap_nanousd: int) -> None:
        """Changes the cap of a key."""
        settings = account_events_pb2.KeySettings(spend_cap_nanousd=cap_nanousd)
        request = keys_pb2.UpdateKeyRequest(
            key_id=key_id, settings=settings, update_mask=["spend_cap_nanousd"]
        )
        await self.insist("keys", "UpdateKey", request, customer.account_id)


@asynccontextmanager
async def operator_of(stack: Stack) -> AsyncIterator[Operator]:
    """The operator of a stack that is ready."""
    # The command line finds a stack by this variable, and so do we.
    with mock.patch.dict(os.environ, {"MESH_DATA_DIR": str(stack.data_dir)}):
        opened = services()
        found = await opened.__aenter__()
    try:
        yield Operator(found)
    finally:
        await opened.__aexit__(None, None, None)
