"""`mesh admin accounts`: who uses the gateway."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, Count, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.common.v1 import common_pb2

app = App(name="accounts", help="Accounts and their members.")


def account_row(account: accounts_pb2.Account) -> Row:
    return {
        "account_id": account.account_id,
        "name": account.name,
        "owner_email": account.owner_email,
        "suspended": account.suspended,
        "created_at": moment(account.created_at_ms),
    }


@app.command(name="list")
def list_accounts(
    search: str = "",
    *,
    limit: Count = 50,
    options: Options = Options(),
) -> None:
    """Accounts, newest first, by part of a name or of the owner's address."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        page = common_pb2.PageRequest(page_size=limit)
        request = accounts_pb2.ListAccountsRequest(page=page, search=search)
        return await call(found, "accounts", method=found.accounts.ListAccounts, request=request)

    show_rows([account_row(a) for a in run(work).accounts], as_json=options.json)


@app.command
def create(
    email: str,
    *,
    name: str = "",
    account_name: str = "",
    password: Annotated[str | None, Parameter(help="Asked for when it is left out.")] = None,
    options: Options = Options(),
) -> None:
    """A new user with an account of their own."""
    secret = password or (getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().strip())

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = accounts_pb2.SignUpRequest(
            email=email,
            password=secret,
            name=name,
            account_name=account_name,
            user_agent="mesh admin",
        )
        return await found.channels["accounts"].call(found.accounts.SignUp, request)

    principal = run(work).principal
    row = {"account_id": principal.account_id, "user_id": principal.user_id, "email": email}
    show_one(row, as_json=options.json)


@app.command
def show(account: str | None = None, *, options: Options = Options()) -> None:
    """One account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "accounts", method=found.accounts.GetAccount,
                          request=accounts_pb2.GetAccountRequest(),
                          account=await found.account_id(account))  # fmt: skip

    show_one(account_row(run(work)), as_json=options.json)


@app.command
def suspend(account: str, *, reason: str = "", options: Options = Options()) -> None:
    """Refuses every key of the account, everywhere, within a second."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "accounts", method=found.accounts.SuspendAccount,
                          request=accounts_pb2.SuspendAccountRequest(reason=reason),
                          account=await found.account_id(account))  # fmt: skip

    show_one(account_row(run(work)), as_json=options.json)


@app.command
def resume(account: str, *, options: Options = Options()) -> None:
    """Ends a suspension."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "accounts", method=found.accounts.ResumeAccount,
                          request=accounts_pb2.ResumeAccountRequest(),
                          account=await found.account_id(account))  # fmt: skip

    show_one(account_row(run(work)), as_json=options.json)


@app.command
def members(*, account: AccountOption = None, options: Options = Options()) -> None:
    """Who may do what in an account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "accounts", method=found.accounts.ListMembers,
                          request=accounts_pb2.ListMembersRequest(),
                          account=await found.account_id(account))  # fmt: skip

    rows = [
        {
            "user_id": m.user_id,
            "email": m.email,
            "name": m.name,
            "role": common_pb2.Role.Name(m.role).removeprefix("ROLE_").lower(),
            "added_at": moment(m.added_at_ms),
        }
        for m in run(work).members
    ]
    show_rows(rows, as_json=options.json)
