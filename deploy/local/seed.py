"""The demo account: made once over gRPC, found again at each later start.

The local provider and its models are seeded by the catalogue itself, from MESH_LOCAL_MODEL_URL.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.demo import (
    DEMO_EMAIL,
    Demo,
    demo_of,
    gateway_port,
    key_works,
    read_demo,
    until_key_works,
    write_demo,
)
from deploy.local.layout import Layout, read_env_file
from deploy.local.problems import StackProblem
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

DEMO_CREDIT_NANOUSD = 5_000_000_000
CALL_TIMEOUT_S = 15.0


async def seed(layout: Layout, variables: Mapping[str, str]) -> Demo:
    """Make the demo account, its credit and its key, or find them; writes `demo.env`.

    `variables` are the stack's addresses and secrets. Raises StackProblem if a service refuses.
    """
    port = gateway_port(variables)
    try:
        async with _channels(variables) as (accounts, billing):
            account_id = await _account(accounts, variables["MESH_DEMO_PASSWORD"])
            await _credit(billing, account_id)
            known = read_demo(layout)
            key = known.api_key if known is not None else ""
            if not key or not await key_works(port, key):
                key = await _new_key(accounts, account_id)
                await until_key_works(port, key)
    except AppError as error:
        raise StackProblem(f"The demo account cannot be made: {error.message}") from error
    demo = demo_of(variables, key)
    write_demo(layout, demo)
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


def main() -> None:
    """`python -m deploy.local.seed [DATA_DIR]`: on the stack that runs in that data directory."""
    layout = Layout(Path(sys.argv[1] if len(sys.argv) > 1 else ".mesh").resolve())
    if not layout.ready.exists():
        sys.exit(f"mesh: no stack is running in {layout.data_dir}: start one with `make run`.")
    variables = read_env_file(layout.stack) | read_env_file(layout.secrets)
    try:
        demo = asyncio.run(seed(layout, variables))
    except StackProblem as problem:
        sys.exit(f"mesh: {problem}")
    print(f"the demo account is {demo.email}; its key is in {layout.demo}")


if __name__ == "__main__":
    main()
