"""`mesh ledger`: the books explained, checked, made again and corrected."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.billing import transaction_row
from services.cli.admin.common import Options, run
from services.cli.context import CliError, Services, environment, operator
from services.cli.output import Row, moment, show_one, show_rows, usd
from services.common.errors import InvalidArgument
from services.common.money import nanousd_from_field
from services.common.pb.mesh.billing.v1 import ledger_pb2, ledger_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2

# Verifying or rating a whole ledger again takes its time.
LONG_TIMEOUT_S = 3_600.0

app = App(name="ledger", help="Explain, verify, rebuild and correct the books.")
Reason = Annotated[str, Parameter(help="Why; it stands in the journal.")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The correct price, in USD."""

    prompt: Annotated[str, Parameter(help="USD per million prompt tokens.")]
    completion: Annotated[str, Parameter(help="USD per million completion tokens.")]
    cached_prompt: Annotated[
        str | None, Parameter(help="USD per million cached prompt tokens; default: as the prompt.")
    ] = None
    request_fee: Annotated[str, Parameter(help="USD for each request.")] = "0"
    price_version: Annotated[
        str | None, Parameter(help="Id of the correct price; default: made of its figures.")
    ] = None

    def price(self, model_id: str) -> common_pb2.PriceVersion:
        """The price as a message. Raises InvalidArgument, naming the figure."""
        wanted = {
            common_pb2.TOKEN_KIND_PROMPT: ("prompt", self.prompt),
            common_pb2.TOKEN_KIND_CACHED_PROMPT: ("cached_prompt", self.cached_prompt),
            common_pb2.TOKEN_KIND_COMPLETION: ("completion", self.completion),
        }
        price = common_pb2.PriceVersion(
            model_id=model_id,
            rates=[
                common_pb2.Rate(kind=kind, nanousd_per_million=nanousd_from_field(name, value))
                for kind, (name, value) in wanted.items()
                if value is not None
            ],
            request_fee_nanousd=nanousd_from_field("request_fee", self.request_fee),
            source="operator",
        )
        price.price_version_id = self.price_version or price_id(price)
        return price


@app.command
def explain(
    account: str,
    *,
    at: Annotated[
        str | None, Parameter(help="ISO 8601 with its zone, or Unix milliseconds; default: now.")
    ] = None,
    options: Options = Options(),
) -> None:
    """The entries that make up an account's balance, now or at any past time."""
    at_ms = unix_ms(at) if at else 0

    async def work(found: Services) -> int:
        account_id = await found.account_id(account)
        request = ledger_pb2.ExplainRequest(at_ms=at_ms)
        rows: list[Row] = []
        balance = count = 0
        async for answer in _stream(found, "Explain", request, account=account_id):
            count, balance = count + 1, answer.balance_nanousd
            if options.json:
                print(json.dumps(explained_row(answer), ensure_ascii=False))
            else:
                rows.append(explained_row(answer))
        if rows:
            show_rows(rows, as_json=False)
        when = f"at {moment(at_ms)}" if at_ms else "now"
        line = f"{account_id}: {usd(balance)} USD {when}, the sum of {count} entries"
        print(line, file=sys.stderr if options.json else sys.stdout)
        return count

    run(work)


@app.command
def verify(account: str | None = None, *, options: Options = Options()) -> None:
    """Checks every chain, balance, table and seal; exits 1 where something is wrong.

    Parameters
    ----------
    account
        Only this one, without the seals; default: all.
    """

    async def work(found: Services) -> ledger_pb2.VerifyResponse:
        account_id = await found.account_id(account) if account else ""
        answer: ledger_pb2.VerifyResponse = await _call(
            found, "Verify", ledger_pb2.VerifyRequest(), account=account_id
        )
        return answer

    answer = run(work)
    rows: list[Row] = [
        {"account_id": finding.account_id or "all", "finding": finding.what}
        for finding in answer.findings
    ]
    if rows:
        show_rows(rows, as_json=options.json)
    verdict = f"{len(rows)} findings" if rows else "nothing wrong"
    line = (
        f"{answer.accounts} accounts, {answer.events} events, {answer.transactions} transactions,"
        f" {answer.seals} seals: {verdict}"
    )
    print(line, file=sys.stderr if options.json else sys.stdout)
    sys.exit(1 if rows else 0)


@app.command
def rebuild(
    *, repair: Annotated[bool, Parameter(negative="", help="Keep what differs.")] = False
) -> None:
    """Makes billing's tables again from the events and compares them by hash; 1 where they differ.

    It works on the database MESH_BILLING_DSN; billing may run, and waits meanwhile.
    """
    known = environment()
    if not known.get("MESH_BILLING_DSN"):
        raise CliError("MESH_BILLING_DSN is not set: name billing's database")
    command = [sys.executable, "-m", "services.billing.rebuild", *(["--repair"] if repair else [])]
    sys.exit(subprocess.run(command, env=known, check=False).returncode)  # noqa: S603 - our own


@app.command
def correct(transaction_id: str, *, reason: Reason, options: Options = Options()) -> None:
    """Reverses a transaction by a new one that names it; the same again changes nothing."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = ledger_pb2.PostCorrectionRequest(transaction_id=transaction_id, reason=reason)
        return await _call(found, "PostCorrection", request)

    posted = run(work).transaction
    corrected = {"corrects": posted.corrects_transaction_id, "account_id": posted.account_id}
    show_one({**transaction_row(posted), **corrected}, as_json=options.json)


@app.command
def write_off(grant_id: str, *, reason: Reason, options: Options = Options()) -> None:
    """Gives up an unresolved grant: what it still holds is available again."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        request = ledger_pb2.WriteOffGrantRequest(grant_id=grant_id, reason=reason)
        return await _call(found, "WriteOffGrant", request)

    answer = run(work)
    row: Row = {
        "grant_id": grant_id,
        "account_id": answer.account_id,
        "written_off_usd": usd(answer.written_off_nanousd),
        "written_off_nanousd": answer.written_off_nanousd,
    }
    show_one(row, as_json=options.json)


@app.command
def rerate(
    model_id: str,
    *,
    wrong_price: Annotated[str, Parameter(help="The price version that was wrong.")],
    figures: Figures,
    account: Annotated[str | None, Parameter(help="Only this one; default: all.")] = None,
    yes: Annotated[
        bool, Parameter(name="--yes", negative="--dry-run", help="Book, rather than only show.")
    ] = False,
    options: Options = Options(),
) -> None:
    """Books what a wrong price made too much or too little, request by request.

    Without `--yes` it only shows what it would book.
    """
    price = figures.price(model_id)

    async def work(found: Services) -> list[ledger_pb2.RerateModelResponse]:
        account_id = await found.account_id(account) if account else ""
        request = ledger_pb2.RerateModelRequest(
            model_id=model_id,
            wrong_price_version_id=wrong_price,
            correct_price=price,
            dry_run=not yes,
        )
        return [one async for one in _stream(found, "RerateModel", request, account=account_id)]

    answers = run(work)
    show_rows(rerated_rows(answers), as_json=options.json, nothing="no such usage")
    for answer in answers:
        if answer.problem:
            print(f"{answer.usage_transaction_id}: {answer.problem}", file=sys.stderr)
    difference = sum(answer.difference_nanousd for answer in answers)
    done = "booked" if yes else "dry run, nothing booked"
    line = f"{len(answers)} requests, {usd(difference)} USD back to wallets: {done}"
    print(line, file=sys.stderr if options.json else sys.stdout)


def unix_ms(text: str) -> int:
    """A moment as Unix milliseconds. Raises InvalidArgument where it is none, or has no zone."""
    if text.isdecimal():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument.of("at", f"not a time: {text!r}") from error
    if at.tzinfo is None:
        raise InvalidArgument.of("at", "needs its zone, for instance 2026-01-31T12:00:00Z")
    return int(at.timestamp() * 1000)


def explained_row(answer: ledger_pb2.ExplainResponse) -> Row:
    """One line of an explanation."""
    posted = answer.transaction
    return {
        "sequence": posted.sequence,
        "booked_at": moment(posted.booked_at_ms),
        "kind": posted.kind,
        "amount_usd": usd(answer.amount_nanousd),
        "balance_usd": usd(answer.balance_nanousd),
        "amount_nanousd": answer.amount_nanousd,
        "balance_nanousd": answer.balance_nanousd,
        "request_id": posted.request_id,
        "transaction_id": posted.transaction_id,
        "corrects": posted.corrects_transaction_id,
        "reason": posted.reason,
    }


def rerated_rows(answers: list[ledger_pb2.RerateModelResponse]) -> list[Row]:
    """One line an account, by which the answers are ordered."""
    rows: list[Row] = []
    for account_id, group in groupby(answers, key=lambda answer: answer.account_id):
        of_account = list(group)
        difference = sum(one.difference_nanousd for one in of_account)
        rows.append(
            {
                "account_id": account_id,
                "requests": len(of_account),
                "booked_usd": usd(sum(one.booked_nanousd for one in of_account)),
                "correct_usd": usd(sum(one.correct_nanousd for one in of_account)),
                "difference_usd": usd(difference),
                "difference_nanousd": difference,
                "not_ratable": sum(bool(one.problem) for one in of_account),
            }
        )
    return rows


def price_id(price: common_pb2.PriceVersion) -> str:
    """An id made of the figures, so that the same command names the same price again."""
    digest = hashlib.sha256(price.SerializeToString(deterministic=True)).hexdigest()
    return f"pv_{digest[:26]}"


async def _call(
    found: Services,
    method: str,
    request: Any,  # Any: the message that the method takes
    *,
    account: str = "",
) -> Any:  # Any: the message that the method returns
    channel = found.channels["billing"]
    stub = ledger_pb2_grpc.LedgerServiceStub(channel.channel())
    return await channel.call(
        getattr(stub, method), request, principal=operator(account), timeout_s=LONG_TIMEOUT_S
    )


def _stream(
    found: Services,
    method: str,
    request: Any,  # Any: the message that the method takes
    *,
    account: str = "",
) -> AsyncIterator[Any]:  # Any: the messages that the method returns
    channel = found.channels["billing"]
    stub = ledger_pb2_grpc.LedgerServiceStub(channel.channel())
    return channel.stream(
        getattr(stub, method), request, principal=operator(account), timeout_s=LONG_TIMEOUT_S
    )
