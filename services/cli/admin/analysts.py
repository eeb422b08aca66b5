"""`mesh admin analysts`: who may query an account in SQL."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, CountOrNone, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows
from services.common.pb.mesh.usage.v1 import analysts_pb2

app = App(name="analysts", help="Who may query an account in SQL: issue, list, revoke.")


def analyst_row(analyst: analysts_pb2.Analyst) -> Row:
    return {
        "analyst_id": analyst.analyst_id,
        "name": analyst.name,
        "created_by": analyst.created_by,
        "created_at": moment(analyst.created_at_ms),
        "expires_at": moment(analyst.expires_at_ms),
        "revoked_at": moment(analyst.revoked_at_ms),
    }


def command(account: str | None, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the AnalystService method `name` for that account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        method = getattr(found.analysts, name)
        return await call(found, "usage", method=method, request=request, account=account_id)

    return run(work)


@app.command
def issue(
    name: str,
    *,
    expires_in_s: Annotated[CountOrNone, Parameter(help="0: it does not expire.")] = 0,
    account: AccountOption = None,
    options: Options = Options(),
) -> None:
    """A new analyst; the token, which is the password, is shown this once."""
    request = analysts_pb2.CreateAnalystRequest(name=name, expires_in_s=expires_in_s)
    answer = command(account, "CreateAnalyst", request)
    row = {"user": answer.analyst.analyst_id, "token": answer.plain_token}
    show_one({**row, **analyst_row(answer.analyst)}, as_json=options.json)


@app.command(name="list")
def list_analysts(*, account: AccountOption = None, options: Options = Options()) -> None:
    """The account's analysts, newest first."""
    answer = command(account, "ListAnalysts", analysts_pb2.ListAnalystsRequest())
    show_rows([analyst_row(analyst) for analyst in answer.analysts], as_json=options.json)


@app.command
def revoke(analyst_id: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """Takes the access away; queries that begin afterwards are refused."""
    request = analysts_pb2.RevokeAnalystRequest(analyst_id=analyst_id)
    show_one(analyst_row(command(account, "RevokeAnalyst", request)), as_json=options.json)
