"""`mesh admin credit`, `balances` and `grants`: the ledger as the operator sees it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, Count, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows, usd
from services.common.ids import new_id
from services.common.money import nanousd_from_field
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2

balances = App(name="balances", help="Balances and what they are made of.")
grants = App(name="grants", help="Money lent to gateway workers.")


def balance_row(balance: billing_pb2.Balance) -> Row:
    return {
        "account_id": balance.account_id,
        "posted_usd": usd(balance.posted_nanousd),
        "held_usd": usd(balance.granted_nanousd),
        "available_usd": usd(balance.available_nanousd),
        "posted_nanousd": balance.posted_nanousd,
        "held_nanousd": balance.granted_nanousd,
        "updated_at": moment(balance.updated_at_ms),
    }


def transaction_row(posted: ledger_pb2.TransactionPosted) -> Row:
    wallet = sum(e.amount_nanousd for e in posted.entries if e.ledger_account.startswith("wallet:"))
    return {
        "sequence": posted.sequence,
        "booked_at": moment(posted.booked_at_ms),
        "kind": posted.kind,
        "amount_usd": usd(wallet),
        "amount_nanousd": wallet,
        "request_id": posted.request_id,
        "model_id": posted.model_id,
        "reason": posted.reason,
        "transaction_id": posted.transaction_id,
    }


def credit(
    amount: Annotated[str, Parameter(help="In USD, for instance 12.50.")],
    *,
    account: AccountOption = None,
    reason: str = "",
    idempotency_key: Annotated[
        str | None, Parameter(help="The same key credits once, however often it is sent.")
    ] = None,
    options: Options = Options(),
) -> None:
    """Credits an account out of `promo`."""
    amount_nanousd = nanousd_from_field("amount", amount)

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = billing_pb2.CreditAccountRequest(
            amount_nanousd=amount_nanousd,
            reason=reason,
            idempotency_key=idempotency_key or new_id("cli"),
        )
        account_id = await found.account_id(account)
        return await call(found, "billing", method=found.billing.CreditAccount, request=request,
                          account=account_id)  # fmt: skip

    show_one(balance_row(run(work).balance), as_json=options.json)


@balances.command
def show(account: str | None = None, *, options: Options = Options()) -> None:
    """One account's balance: posted, held by grants, available."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        return await call(found, "billing", method=found.billing.GetBalance,
                          request=billing_pb2.GetBalanceRequest(), account=account_id)  # fmt: skip

    show_one(balance_row(run(work)), as_json=options.json)


@balances.command(name="list")
def list_balances(*, limit: Count = 50, options: Options = Options()) -> None:
    """The balances of the newest accounts."""

    async def work(found: Services) -> list[Row]:
        page = common_pb2.PageRequest(page_size=limit)
        request = accounts_pb2.ListAccountsRequest(page=page)
        answer = await call(found, "accounts", method=found.accounts.ListAccounts, request=request)
        rows: list[Row] = []
        for account in answer.accounts:
            balance = await call(found, "billing", method=found.billing.GetBalance,
                                 request=billing_pb2.GetBalanceRequest(),
                                 account=account.account_id)  # fmt: skip
            rows.append({"owner_email": account.owner_email, **balance_row(balance)})
        return rows

    show_rows(run(work), as_json=options.json)


@balances.command
def transactions(
    account: str | None = None,
    *,
    limit: Count = 20,
    options: Options = Options(),
) -> None:
    """The account's journal, newest first."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = billing_pb2.ListTransactionsRequest(page=common_pb2.PageRequest(page_size=limit))
        account_id = await found.account_id(account)
        return await call(found, "billing", method=found.billing.ListTransactions, request=request,
                          account=account_id)  # fmt: skip

    show_rows([transaction_row(t) for t in run(work).transactions], as_json=options.json)


@balances.command
def keys(account: str | None = None, *, options: Options = Options()) -> None:
    """What each key has spent and holds, against its cap."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        request = billing_pb2.ListKeySpendRequest()
        return await call(found, "billing", method=found.billing.ListKeySpend, request=request,
                          account=account_id)  # fmt: skip

    rows = [
        {
            "key_id": key.key_id,
            "spent_usd": usd(key.spent_nanousd),
            "held_usd": usd(key.granted_nanousd),
            "cap_usd": usd(key.spend_cap_nanousd) if key.HasField("spend_cap_nanousd") else None,
            "window": common_pb2.CapWindow.Name(key.window).removeprefix("CAP_WINDOW_").lower(),
        }
        for key in run(work).keys
    ]
    show_rows(rows, as_json=options.json)


@grants.command(name="list")
def list_grants(
    *,
    account: Annotated[
        str | None, Parameter(name=["--account", "-a"], help="Default: all.")
    ] = None,
    unresolved: Annotated[bool, Parameter(negative="")] = False,
    limit: Count = 50,
    options: Options = Options(),
) -> None:
    """Grants that still hold money."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = billing_pb2.ListGrantsRequest(
            page=common_pb2.PageRequest(page_size=limit), unresolved_only=unresolved
        )
        account_id = await found.account_id(account) if account else ""
        return await call(found, "billing", method=found.billing.ListGrants, request=request,
                          account=account_id)  # fmt: skip

    rows = [
        {
            "grant_id": g.grant_id,
            "status": g.status,
            "worker_id": g.worker_id,
            "account_id": g.account_id,
            "key_id": g.key_id,
            "amount_usd": usd(g.amount_nanousd),
            "settled_usd": usd(g.settled_nanousd),
            "returned_usd": usd(g.returned_nanousd),
            "expires_at": moment(g.expires_at_ms),
        }
        for g in run(work).grants
    ]
    show_rows(rows, as_json=options.json)
