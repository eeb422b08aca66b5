"""`mesh admin limits` and `mesh admin teams`: what binds many keys at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, Options, call, run
from services.cli.admin.keys import NO_LIMIT, Window, whole
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows, usd
from services.common.errors import InvalidArgument
from services.common.money import nanousd_from_field
from services.common.pb.mesh.accounts.v1 import limits_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2

app = App(name="limits", help="Spend caps and rate limits of an account, members, teams, models.")
teams = App(name="teams", help="Teams: create, rename, remove, members. Keys: `keys --team`.")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What may be set on a scope; `none` takes a limit away, what is left out stays."""

    spend_cap: Annotated[str | None, Parameter(help="In USD, or `none`.")] = None
    spend_cap_window: Window | None = None
    rpm: Annotated[str | None, Parameter(help="Requests a minute, or `none`.")] = None
    rpd: Annotated[str | None, Parameter(help="Requests a day, or `none`.")] = None
    tpm: Annotated[str | None, Parameter(help="Tokens a minute, or `none`.")] = None


def limits_of(before: accounts_pb2.Limits, options: LimitOptions) -> accounts_pb2.Limits:
    """The limits with what was given changed. Raises InvalidArgument."""
    limits = accounts_pb2.Limits()
    limits.CopyFrom(before)
    if options.spend_cap is not None:
        limits.ClearField("spend_cap_nanousd")
        if options.spend_cap != NO_LIMIT:
            limits.spend_cap_nanousd = nanousd_from_field("spend_cap", options.spend_cap)
    if options.spend_cap_window is not None:
        name = f"CAP_WINDOW_{options.spend_cap_window.upper()}"
        limits.spend_cap_window = common_pb2.CapWindow.Value(name)
    for field in ("rpm", "rpd", "tpm"):
        value = getattr(options, field)
        if value is not None:
            limits.ClearField(f"{field}_limit")  # type: ignore[arg-type]  # one of three literals
            if value != NO_LIMIT:
                setattr(limits, f"{field}_limit", whole(field, value))
    return limits


def limits_row(scope: str, limits: accounts_pb2.Limits) -> Row:
    capped = limits.HasField("spend_cap_nanousd")
    window = common_pb2.CapWindow.Name(limits.spend_cap_window)
    rates: Row = {
        name: getattr(limits, f"{name}_limit") if limits.HasField(f"{name}_limit") else None  # type: ignore[arg-type]  # one of three literals
        for name in ("rpm", "rpd", "tpm")
    }
    return {
        "scope": scope,
        "spend_cap_usd": usd(limits.spend_cap_nanousd) if capped else None,
        "window": window.removeprefix("CAP_WINDOW_").lower() if capped else None,
        **rates,
    }


def team_row(team: limits_pb2.Team) -> Row:
    return {
        "team_id": team.team_id,
        "name": team.name,
        "members": list(team.member_user_ids),
        "created_at": moment(team.created_at_ms),
    }


def command(account: str | None, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the LimitsService method `name` for that account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        method = getattr(found.limits, name)
        return await call(found, "accounts", method=method, request=request, account=account_id)

    return run(work)


@app.command
def show(
    scope: str | None = None, *, account: AccountOption = None, options: Options = Options()
) -> None:
    """What limits the account, its members, teams and models, and what was spent of it.

    Parameters
    ----------
    scope
        `account`, `account_model:<model>`, `member:<user id>` or `team:<team id>`; all if left out.
    """
    answer = command(account, "ListLimits", limits_pb2.ListLimitsRequest())
    found = [one for one in answer.scopes if scope in (None, one.scope)]

    async def spend(services: Services) -> Any:  # Any: a protobuf message
        account_id = await services.account_id(account)
        request = billing_pb2.ListScopeSpendRequest(scopes=[one.scope for one in found])
        method = services.billing.ListScopeSpend
        return await call(services, "billing", method=method, request=request, account=account_id)

    spent = {one.scope: one for one in run(spend).scopes} if found else {}
    rows = [
        {
            **limits_row(one.scope, one.limits),
            "spent_usd": usd(spent[one.scope].spent_nanousd),
            "held_usd": usd(spent[one.scope].granted_nanousd),
        }
        for one in found
    ]
    show_rows(rows, as_json=options.json)


@app.command(name="set")
def set_limits(
    scope: str,
    *,
    account: AccountOption = None,
    limits: LimitOptions = LimitOptions(),
    options: Options = Options(),
) -> None:
    """Changes what is named and nothing else; in force everywhere within a second.

    Parameters
    ----------
    scope
        `account`, `account_model:<model>`, `member:<user id>` or `team:<team id>`.
    """
    if limits == LimitOptions():
        raise InvalidArgument("name at least one limit to change (see --help)")
    known = command(account, "ListLimits", limits_pb2.ListLimitsRequest()).scopes
    before = next((one.limits for one in known if one.scope == scope), accounts_pb2.Limits())
    request = limits_pb2.SetLimitsRequest(scope=scope, limits=limits_of(before, limits))
    answer = command(account, "SetLimits", request)
    show_one(limits_row(answer.scope, answer.limits), as_json=options.json)


@teams.command(name="list")
def list_teams(*, account: AccountOption = None, options: Options = Options()) -> None:
    """The account's teams, by name."""
    answer = command(account, "ListTeams", limits_pb2.ListTeamsRequest())
    show_rows([team_row(team) for team in answer.teams], as_json=options.json)


@teams.command
def create(name: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """A new team without members."""
    answer = command(account, "CreateTeam", limits_pb2.CreateTeamRequest(name=name))
    show_one(team_row(answer), as_json=options.json)


@teams.command
def rename(
    team_id: str, name: str, *, account: AccountOption = None, options: Options = Options()
) -> None:
    """Another name for it."""
    request = limits_pb2.RenameTeamRequest(team_id=team_id, name=name)
    show_one(team_row(command(account, "RenameTeam", request)), as_json=options.json)


@teams.command
def remove(team_id: str, *, account: AccountOption = None) -> None:
    """Removes a team that no key is in."""
    command(account, "RemoveTeam", limits_pb2.RemoveTeamRequest(team_id=team_id))


@teams.command
def add_member(
    team_id: str, user_id: str, *, account: AccountOption = None, options: Options = Options()
) -> None:
    """Lets a member of the account make keys in the team."""
    request = limits_pb2.PutTeamMemberRequest(team_id=team_id, user_id=user_id)
    show_one(team_row(command(account, "PutTeamMember", request)), as_json=options.json)


@teams.command
def remove_member(
    team_id: str, user_id: str, *, account: AccountOption = None, options: Options = Options()
) -> None:
    """Ends that; the keys that are in the team stay in it."""
    request = limits_pb2.RemoveTeamMemberRequest(team_id=team_id, user_id=user_id)
    show_one(team_row(command(account, "RemoveTeamMember", request)), as_json=options.json)
