"""Which account a command is about, found by a real gRPC call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from services.cli.context import CliError, Services, services
from services.common.config import DEVELOPMENT_SECRET
from services.common.errors import InvalidArgument, NotFound, Unavailable
from services.common.grpc import Access, GrpcServer, TokenVerifier
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.accounts.v1.accounts_pb2_grpc import (
    AccountsServiceServicer,
    add_AccountsServiceServicer_to_server,
)
from tests.fixtures.engines import unused_port

KNOWN = [
    accounts_pb2.Account(account_id="acc_1", name="Ada's", owner_email="ada@example.com"),
    accounts_pb2.Account(account_id="acc_2", name="Adamas", owner_email="adam@example.com"),
]
METHOD = "/mesh.accounts.v1.AccountsService/ListAccounts"


class FewAccounts(AccountsServiceServicer):
    """Finds accounts by a part of their texts, as accounts does."""

    def __init__(self) -> None:
        self.known = list(KNOWN)

    async def ListAccounts(
        self,
        request: accounts_pb2.ListAccountsRequest,
        context: grpc.aio.ServicerContext[
            accounts_pb2.ListAccountsRequest, accounts_pb2.ListAccountsResponse
        ],
    ) -> accounts_pb2.ListAccountsResponse:
        found = [a for a in self.known if request.search in a.name + a.owner_email]
        return accounts_pb2.ListAccountsResponse(accounts=found)


@pytest.fixture
async def few() -> AsyncIterator[tuple[FewAccounts, str]]:
    servicer = FewAccounts()  # type: ignore[abstract]  # the other methods answer UNIMPLEMENTED
    server = GrpcServer(
        listen="127.0.0.1:0",
        verifier=TokenVerifier(DEVELOPMENT_SECRET),
        policies={METHOD: Access(frozenset({"cli"}), "operator")},
    )
    add_AccountsServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    yield servicer, f"127.0.0.1:{server.port}"
    await server.stop(0.0)


@pytest.fixture
async def open_services(
    few: tuple[FewAccounts, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Services]:
    monkeypatch.setenv("MESH_SERVICE_SECRET", DEVELOPMENT_SECRET)
    for name in ("BILLING", "USAGE", "USAGE_LIVE", "CATALOG"):
        monkeypatch.setenv(f"MESH_{name}_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("MESH_ACCOUNTS_ADDRESS", few[1])
    async with services() as found:
        yield found


@pytest.mark.parametrize(
    ("named", "account_id"),
    [
        ("ada@example.com", "acc_1"),
        ("Adamas", "acc_2"),
        ("adam@", "acc_2"),
        # An id is taken at its word; the service that is called says whether there is one.
        ("acc_unheard_of", "acc_unheard_of"),
    ],
)
async def test_an_account_is_named_by_id_address_or_name(
    named: str, account_id: str, open_services: Services
) -> None:
    assert await open_services.account_id(named) == account_id


@pytest.mark.parametrize("named", ["Ada", None])
async def test_a_name_that_fits_several_accounts_is_refused_with_their_ids(
    named: str | None, open_services: Services
) -> None:
    with pytest.raises(InvalidArgument, match=r"acc_1 .*acc_2") as caught:
        await open_services.account_id(named)
    assert caught.value.details[0].loc == ("account",)


async def test_a_name_that_fits_none_is_repeated(open_services: Services) -> None:
    with pytest.raises(NotFound, match="no account matches 'Eve'"):
        await open_services.account_id("Eve")


async def test_the_only_account_need_not_be_named(
    few: tuple[FewAccounts, str], open_services: Services
) -> None:
    few[0].known = KNOWN[:1]
    assert await open_services.account_id(None) == "acc_1"
    few[0].known = []
    with pytest.raises(NotFound, match="there is no account yet"):
        await open_services.account_id(None)


async def test_a_service_that_is_away_is_named_as_such(
    open_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_ACCOUNTS_ADDRESS", f"127.0.0.1:{unused_port()}")
    async with services() as found:
        with pytest.raises(Unavailable):
            await found.account_id(None)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MESH_SERVICE_SECRET", ""), ("MESH_SERVICE_SECRET", "short"), ("MESH_USAGE_ADDRESS", "")],
)
async def test_a_bad_setting_is_named(
    variable: str, value: str, open_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("MESH_DATA_DIR", "nowhere")
    with pytest.raises(CliError, match=variable):
        async with services():
            pass
