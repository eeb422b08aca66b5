"""The demo account: made once over gRPC, found again at each later start.

The local provider and its models are seeded by the catalogue itself, from MESH_LOCAL_MODEL_URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deploy.local.layout import Layout, Ports, read_env_file, write_env_file
from deploy.local.probes import http_status
from deploy.local.problems import StackProblem
from deploy.local.specs import service_exists
from services.common.errors import AppError, Conflict
from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
)
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as accounts_events_pb2
from services.common.security.tokens import Principal, TokenSigner

DEMO_EMAIL = "demo@mesh.local"
DEMO_CREDIT_NANOUSD = 5_000_000_000
MODEL_FREE = "local/smollm2-135m:free"
MODEL_PRICED = "local/smollm2-135m"
NEEDED = ("accounts", "billing", "catalog", "gateway")

CALL_TIMEOUT_S = 15.0
# A new key is known to every gateway worker within a second; this allows for a slow machine.
KEY_WAIT_S = 20.0
KEY_POLL_S = 0.05
KEY_OK_IN_A_ROW = 6


@dataclass(frozen=True, slots=True)
class Demo:
    """What a newcomer needs to make the first request."""

    base_url: str
    api_key: str
    dashboard_url: str
    email: str
    password: str

    def variables(self) -> dict[str, str]:
        """As they stand in `demo.env`."""
        return {
            "MESH_BASE_URL": self.base_url,
            "MESH_API_KEY": self.api_key,
            "MESH_DASHBOARD_URL": self.dashboard_url,
            "MESH_DEMO_EMAIL": self.email,
            "MESH_DEMO_PASSWORD": self.password,
        }


async def seed(layout: Layout, ports: Ports, variables: Mapping[str, str]) -> Demo | None:
    """Make the demo account, its credit and its key, or find them; writes `demo.env`.

    Returns None where services are left out that it needs.

    Raises:
        StackProblem: a service refuses.
    """
    if not all(service_exists(name) for name in NEEDED):
        return None
    try:
        async with _channels(variables) as (accounts, billing):
            account_id = await _account(accounts, variables["MESH_DEMO_PASSWORD"])
            await _credit(billing, account_id)
            key = read_env_file(layout.demo).get("MESH_API_KEY", "")
            if not key or not await _key_works(ports, key):
                key = await _new_key(accounts, account_id)
                await _until_key_works(ports, key)
    except AppError as error:
        raise StackProblem(f"The demo account cannot be made: {error.message}") from error
    demo = Demo(
        base_url=f"http://127.0.0.1:{ports.gateway}",
        api_key=key,
        dashboard_url=f"http://127.0.0.1:{ports.dashboard}",
        email=DEMO_EMAIL,
        password=variables["MESH_DEMO_PASSWORD"],
    )
    write_env_file(layout.demo, "The demo account of this data directory.", demo.variables())
    return demo


@asynccontextmanager
async def _channels(
    variables: Mapping[str, str],
) -> AsyncIterator[tuple[GrpcChannel, GrpcChannel]]:
    signer = TokenSigner(variables["MESH_SERVICE_SECRET"], "cli")
    names = ("MESH_ACCOUNTS_ADDRESS", "MESH_BILLING_ADDRESS")
    accounts, billing = (
        GrpcChannel(variables[name], signer, default_timeout_s=CALL_TIMEOUT_S) for name in names
    )
    try:
        yield accounts, billing
    finally:
        await accounts.close()
        await billing.close()


def _operator(account_id: str = "") -> Principal:
    return Principal(kind="operator", account_id=account_id, user_id="operator")


async def _account(channel: GrpcChannel, password: str) -> str:
    """The demo account's id; signs it up where it is not there."""
    stub = accounts_pb2_grpc.AccountsServiceStub(channel.channel())
    request = accounts_pb2.SignUpRequest(
        email=DEMO_EMAIL, password=password, name="Demo", account_name="Demo", user_agent="mesh up"
    )
    existing = await _find(channel, stub)
    if existing is not None:
        return existing
    try:
        answer = await channel.call(stub.SignUp, request)
        return answer.principal.account_id
    except Conflict:
        # The address is a member of another account, or its account was found too late.
        found = await _find(channel, stub)
        if found is None:
            raise
        return found


async def _find(channel: GrpcChannel, stub: accounts_pb2_grpc.AccountsServiceStub) -> str | None:
    request = accounts_pb2.ListAccountsRequest(
        page=common_pb2.PageRequest(page_size=50), search=DEMO_EMAIL
    )
    answer = await channel.call(stub.ListAccounts, request, principal=_operator())
    ids = [a.account_id for a in answer.accounts if a.owner_email == DEMO_EMAIL]
    return ids[0] if ids else None


async def _credit(channel: GrpcChannel, account_id: str) -> None:
    """Five dollars, once: the idempotency key is the account's."""
    stub = billing_pb2_grpc.BillingServiceStub(channel.channel())
    request = billing_pb2.CreditAccountRequest(
        amount_nanousd=DEMO_CREDIT_NANOUSD,
        reason="demo credit",
        idempotency_key=f"demo-credit:{account_id}",
    )
    await channel.call(stub.CreditAccount, request, principal=_operator(account_id))


async def _new_key(channel: GrpcChannel, account_id: str) -> str:
    stub = keys_pb2_grpc.KeysServiceStub(channel.channel())
    request = keys_pb2.CreateKeyRequest(settings=accounts_events_pb2.KeySettings(label="Demo key"))
    answer = await channel.call(stub.CreateKey, request, principal=_operator(account_id))
    return answer.plain_key


async def _key_works(ports: Ports, key: str) -> bool:
    status = await http_status(ports.gateway, "/v1/models", f"Authorization: Bearer {key}\r\n")
    return status == 200


async def _until_key_works(ports: Ports, key: str) -> None:
    """Wait until every worker knows the key: connections are spread over them at random."""
    in_a_row = 0
    loop = asyncio.get_running_loop()
    deadline = loop.time() + KEY_WAIT_S
    while in_a_row < KEY_OK_IN_A_ROW:
        in_a_row = in_a_row + 1 if await _key_works(ports, key) else 0
        if loop.time() > deadline:
            raise StackProblem("The gateway does not take the demo key: see the log gateway-0.log.")
        if in_a_row == 0:
            await asyncio.sleep(KEY_POLL_S)
