"""`mesh billing`: what operators do about payments: the inbox, refunds, comparison, credit."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, Count, Options, run
from services.cli.context import Services, operator
from services.cli.output import Row, moment, show_one, show_rows, usd
from services.common.ids import new_id
from services.common.money import nanousd_from_field
from services.common.pb.mesh.billing.v1 import payments_pb2, payments_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2

LONG_TIMEOUT_S = 600.0

app = App(name="billing", help="Payments: inbox, refunds, comparison with the gateway.")
inbox = App(name="inbox", help="Notices of the payment gateway and what became of them.")
app.command(inbox)
IdempotencyKey = Annotated[
    str | None, Parameter(help="The same key acts once, however often it is sent.")
]


async def call(
    found: Services,
    method: str,
    request: Any,  # Any: the message that the method takes
    *,
    account: str = "",
) -> Any:  # Any: the message that the method returns
    channel = found.channels["billing"]
    stub = payments_pb2_grpc.PaymentsServiceStub(channel.channel())
    setup = await channel.call(
        stub.GetPaymentSetup, payments_pb2.GetPaymentSetupRequest(), principal=operator(account)
    )
    if setup.test_mode:
        # Beside the rows, which may be read by a program.
        print("TEST MODE: payments are simulated, no money moves", file=sys.stderr)
    return await channel.call(
        getattr(stub, method), request, principal=operator(account), timeout_s=LONG_TIMEOUT_S
    )


def inbox_row(row: payments_pb2.InboxRow) -> Row:
    return {
        "event_id": row.event_id,
        "type": row.type,
        "status": row.status,
        "payment_id": row.payment_id,
        "received_at": moment(row.received_at_ms),
        "source": row.source,
        "deliveries": row.deliveries,
        "attempts": row.attempts,
        "error": row.error,
    }


@inbox.command(name="list")
def list_(
    *,
    status: Annotated[str, Parameter(help="new, done, ignored or failed; default: all.")] = "",
    limit: int = 50,
    options: Options = Options(),
) -> None:
    """The newest notices."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = payments_pb2.ListInboxRequest(status=status, limit=limit)
        return await call(found, "ListInbox", request)

    rows = [inbox_row(row) for row in run(work).rows]
    show_rows(rows, as_json=options.json, nothing="no notices")


@inbox.command
def show(event_id: str, *, options: Options = Options()) -> None:
    """One notice."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "ListInbox", payments_pb2.ListInboxRequest(event_id=event_id))

    show_one(inbox_row(run(work).rows[0]), as_json=options.json)


@inbox.command
def replay(event_id: str, *, options: Options = Options()) -> None:
    """Works on one notice again; what it brings twice is booked once."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "ReplayInbox", payments_pb2.ReplayInboxRequest(event_id=event_id))

    show_one(inbox_row(run(work).row), as_json=options.json)


@app.command
def compare(*, days: int = 7, options: Options = Options()) -> None:
    """Holds the gateway's movements of money against the journal; findings are for a person."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        return await call(found, "ComparePayments", payments_pb2.ComparePaymentsRequest(days=days))

    answer = run(work)
    row: Row = {
        "movements": answer.movements,
        "foreign": answer.foreign,
        "moved_usd": usd(answer.moved_nanousd),
        "fees_usd": usd(answer.fees_nanousd),
        "repaired": answer.repaired,
        "findings": "; ".join(answer.findings),
    }
    show_one(row, as_json=options.json)
    if answer.findings:
        raise SystemExit(1)


@app.command
def payments(account: str | None = None, *, options: Options = Options()) -> None:
    """An account's payments, newest first."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        request = payments_pb2.ListPaymentsRequest(limit=200)
        return await call(found, "ListPayments", request, account=account_id)

    rows: list[Row] = [
        {
            "payment_id": one.payment_id,
            "kind": one.kind,
            "received_at": moment(one.received_at_ms),
            "received_usd": usd(one.received_nanousd),
            "credited_usd": usd(one.credited_nanousd),
            "taken_back_usd": usd(one.taken_back_nanousd),
        }
        for one in run(work).payments
    ]
    show_rows(rows, as_json=options.json, nothing="nothing was paid")


@app.command
def refund(
    payment_id: str,
    *,
    account: AccountOption = None,
    amount: Annotated[str | None, Parameter(help="In USD; default: what is left of it.")] = None,
    reason: str = "",
    idempotency_key: IdempotencyKey = None,
    options: Options = Options(),
) -> None:
    """Gives a payment back, whole or in part; the money leaves the wallet at once."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = payments_pb2.RequestRefundRequest(
            payment_id=payment_id,
            amount_nanousd=0 if amount is None else nanousd_from_field("amount", amount),
            reason=reason,
            idempotency_key=idempotency_key or new_id("cli"),
        )
        account_id = await found.account_id(account)
        return await call(found, "RequestRefund", request, account=account_id)

    one = run(work).refund
    row: Row = {
        "refund_id": one.refund_id,
        "payment_id": one.payment_id,
        "amount_usd": usd(one.amount_nanousd),
        "status": one.status,
    }
    show_one(row, as_json=options.json)


@app.command
def promo(
    amount: Annotated[str, Parameter(help="In USD.")],
    *,
    account: AccountOption = None,
    days: Annotated[int, Parameter(help="Until it expires; 0: never.")] = 0,
    reason: str = "",
    idempotency_key: IdempotencyKey = None,
    options: Options = Options(),
) -> None:
    """Grants promotional credit, which is used before paid credit."""
    expires = datetime.now(UTC) + timedelta(days=days)

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = payments_pb2.GrantPromoRequest(
            amount_nanousd=nanousd_from_field("amount", amount),
            expires_at_ms=round(expires.timestamp() * 1000) if days else 0,
            reason=reason,
            idempotency_key=idempotency_key or new_id("cli"),
        )
        account_id = await found.account_id(account)
        return await call(found, "GrantPromo", request, account=account_id)

    posted = run(work).posted_nanousd
    row: Row = {"balance_usd": usd(posted), "balance_nanousd": posted}
    show_one(row, as_json=options.json)


@app.command
def spend(
    account: str | None = None,
    *,
    days: Annotated[int, Parameter(help="UTC days, today included.")] = 30,
    options: Options = Options(),
) -> None:
    """What was spent by day, provider, model and key: by the journal, and by the request log.

    Exits 1 where the two differ. What is not settled yet is in neither.
    """
    first = datetime.now(UTC).date() - timedelta(days=max(1, days) - 1)
    from_ms = round(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp() * 1000)

    async def work(found: Services) -> list[Row]:
        account_id = await found.account_id(account)
        request = payments_pb2.GetSpendHistoryRequest(from_ms=from_ms)
        journal = await call(found, "GetSpendHistory", request, account=account_id)
        log = await found.channels["usage"].call(
            found.usage.SpendByDay, usage_pb2.SpendByDayRequest(from_ms=from_ms),
            principal=operator(account_id), timeout_s=LONG_TIMEOUT_S,
        )  # fmt: skip
        return spend_rows(journal, log)

    rows = run(work)
    show_rows(rows, as_json=options.json, nothing="nothing was spent")
    if not all(row["equal"] for row in rows):
        raise SystemExit(1)


def spend_rows(
    journal: payments_pb2.GetSpendHistoryResponse, log: usage_pb2.SpendByDayResponse
) -> list[Row]:
    """The two side by side; a row that one of them has not is nothing there."""
    ours = {(one.day, one.provider_id, one.model_id, one.key_id): one for one in journal.rows}
    logged = {(one.day, one.provider_id, one.model_id, one.key_id): one for one in log.rows}
    rows: list[Row] = []
    for key in sorted({*ours, *logged}):
        entry = ours.get(key, payments_pb2.SpendRow())
        cost = logged.get(key, usage_pb2.SpendDay())
        served = entry.spent_nanousd - entry.corrected_nanousd
        rows.append(
            {
                "day": key[0],
                "provider_id": key[1],
                "model_id": key[2],
                "key_id": key[3],
                "requests": cost.requests,
                "spent_usd": usd(entry.spent_nanousd),
                "corrected_usd": usd(entry.corrected_nanousd),
                "log_usd": usd(cost.cost_nanousd),
                "equal": (served, entry.requests) == (cost.cost_nanousd, cost.requests),
            }
        )
    return rows


@app.command
def history(account: str | None = None, *, limit: Count = 50, options: Options = Options()) -> None:
    """Who did what about an account's paying, and what came of it, newest first."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        page = common_pb2.PageRequest(page_size=limit)
        request = payments_pb2.ListPaymentHistoryRequest(page=page)
        return await call(found, "ListPaymentHistory", request, account=account_id)

    rows: list[Row] = [
        {
            "at": moment(one.at_ms),
            "what": f"{one.kind} {one.status}",
            "actor": one.actor,
            "amount_usd": usd(one.amount_nanousd),
            "subject_id": one.subject_id,
            "detail": one.detail,
            "event_id": one.event_id,
        }
        for one in run(work).facts
    ]
    show_rows(rows, as_json=options.json, nothing="nothing happened")


@app.command
def refill(account: str | None = None, *, options: Options = Options()) -> None:
    """How an account is refilled, and where that stands."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        return await call(found, "GetRefill", payments_pb2.GetRefillRequest(), account=account_id)

    answer = run(work)
    settings = answer.settings
    row: Row = {
        "state": answer.state,
        "until": moment(answer.until_ms) if answer.until_ms else "",
        "threshold_usd": usd(settings.threshold_nanousd),
        "amount_usd": usd(settings.amount_nanousd),
        "day_max_usd": usd(settings.day_max_nanousd),
        "month_max_usd": usd(settings.month_max_nanousd),
        "card": answer.card_label,
        "switched_off_because": answer.switched_off_because,
    }
    show_one(row, as_json=options.json)
