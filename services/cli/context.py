"""How the command line reaches the services.

Addresses and the service secret come from the environment, or else from the files that `mesh up`
keeps in its data directory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import AppError, InvalidArgument, NotFound
from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    keys_pb2_grpc,
    limits_pb2_grpc,
)
from services.common.pb.mesh.billing.v1 import billing_pb2_grpc
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc, templates_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import (
    alerts_pb2_grpc,
    analysts_pb2_grpc,
    content_pb2_grpc,
    usage_pb2_grpc,
)
from services.common.security.tokens import Principal, TokenSigner

SERVICES = ("accounts", "billing", "usage", "usage_live", "catalog")
CALL_TIMEOUT_S = 15.0


class CliError(AppError):
    """What the person at the terminal has to change; shown as one sentence."""


def data_dir() -> Path:
    """Where the embedded stack keeps its files."""
    return Path(os.environ.get("MESH_DATA_DIR", ".mesh"))


def environment() -> dict[str, str]:
    """The process's variables over those in `stack.env` and `secrets.env` of the data directory."""
    found: dict[str, str] = {}
    for name in ("stack.env", "secrets.env"):
        path = data_dir() / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            pairs = (line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
            found.update({key.strip(): value.strip().strip("'\"") for key, value in pairs})
    return found | dict(os.environ)


def operator(account_id: str = "") -> Principal:
    """The operator, acting for this account (empty: for none)."""
    return Principal(kind="operator", account_id=account_id, user_id="operator")


@dataclass(frozen=True, slots=True)
class Services:
    """Open channels and their stubs."""

    channels: dict[str, GrpcChannel]
    accounts: accounts_pb2_grpc.AccountsServiceAsyncStub
    keys: keys_pb2_grpc.KeysServiceAsyncStub
    limits: limits_pb2_grpc.LimitsServiceAsyncStub
    billing: billing_pb2_grpc.BillingServiceAsyncStub
    usage: usage_pb2_grpc.UsageServiceAsyncStub
    alerts: alerts_pb2_grpc.AlertServiceAsyncStub
    analysts: analysts_pb2_grpc.AnalystServiceAsyncStub
    contents: content_pb2_grpc.ContentServiceAsyncStub
    catalog: catalog_pb2_grpc.CatalogServiceAsyncStub
    templates: templates_pb2_grpc.TemplatesServiceAsyncStub

    async def account_id(self, named: str | None) -> str:
        """The account named by id, owner's address or name; the only one if none is named.

        Raises NotFound, or InvalidArgument where the name fits several.
        """
        if named and named.startswith("acc_"):
            return named
        request = accounts_pb2.ListAccountsRequest(
            page=common_pb2.PageRequest(page_size=10), search=named or ""
        )
        answer = await self.channels["accounts"].call(
            self.accounts.ListAccounts, request, principal=operator()
        )
        found = list(answer.accounts)
        exact = [a for a in found if named in (a.owner_email, a.name)] or found
        if not exact:
            raise NotFound(f"no account matches {named!r}" if named else "there is no account yet")
        if len(exact) > 1:
            names = ", ".join(f"{a.account_id} ({a.owner_email})" for a in exact)
            raise InvalidArgument.of("account", f"several accounts fit; name one of {names}")
        return str(exact[0].account_id)


def token_signer(known: Mapping[str, str]) -> TokenSigner:
    """Signs as the command line; CliError where there is no secret, or none that will do."""
    secret = known.get("MESH_SERVICE_SECRET")
    if not secret:
        raise CliError(
            f"MESH_SERVICE_SECRET is not set and {data_dir()}/secrets.env is not there: "
            "start the stack with `mesh up`, or set it"
        )
    try:
        return TokenSigner(secret, "cli")
    except ValueError as error:
        raise CliError(f"MESH_SERVICE_SECRET: {error}") from error


@asynccontextmanager
async def services() -> AsyncIterator[Services]:
    """Channels to all services, closed at the end; CliError where a setting is missing."""
    known = environment()
    signer = token_signer(known)
    channels: dict[str, GrpcChannel] = {}
    for name in SERVICES:
        address = known.get(f"MESH_{name.upper()}_ADDRESS")
        if not address:
            raise CliError(f"MESH_{name.upper()}_ADDRESS is not set")
        channels[name] = GrpcChannel(address, signer, default_timeout_s=CALL_TIMEOUT_S)
    try:
        yield Services(
            channels=channels,
            accounts=accounts_pb2_grpc.AccountsServiceStub(channels["accounts"].channel()),
            keys=keys_pb2_grpc.KeysServiceStub(channels["accounts"].channel()),
            limits=limits_pb2_grpc.LimitsServiceStub(channels["accounts"].channel()),
            billing=billing_pb2_grpc.BillingServiceStub(channels["billing"].channel()),
            usage=usage_pb2_grpc.UsageServiceStub(channels["usage"].channel()),
            alerts=alerts_pb2_grpc.AlertServiceStub(channels["usage_live"].channel()),
            analysts=analysts_pb2_grpc.AnalystServiceStub(channels["usage"].channel()),
            contents=content_pb2_grpc.ContentServiceStub(channels["usage"].channel()),
            catalog=catalog_pb2_grpc.CatalogServiceStub(channels["catalog"].channel()),
            templates=templates_pb2_grpc.TemplatesServiceStub(channels["catalog"].channel()),
        )
    finally:
        for channel in channels.values():
            await channel.close()
