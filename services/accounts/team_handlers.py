"""What the commands about teams and limits do: load, decide, append, and publish the keys whose
limits changed.
"""

from __future__ import annotations

from collections.abc import Callable

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.domain import account as accounts
from services.accounts.domain import team as teams
from services.accounts.domain.account import Account
from services.accounts.domain.credential import credentials
from services.accounts.domain.key import Key
from services.accounts.domain.limits import NO_LIMITS, ScopeLimits
from services.accounts.domain.team import team_of
from services.accounts.ports import AccountsTransaction
from services.common import scopes
from services.common.errors import NotFound
from services.common.ids import AccountId, TeamId


async def create_team(ctx: Context, command: c.CreateTeam) -> c.TeamView:
    team_id = TeamId(ctx.secrets.new_id("tm"))
    create = teams.CreateTeam(command.actor, team_id, command.name, ctx.clock.now_ms())
    return await _change_team(ctx, command.account_id, create)


async def rename_team(ctx: Context, command: c.RenameTeam) -> c.TeamView:
    rename = teams.RenameTeam(command.actor, command.team_id, command.name, ctx.clock.now_ms())
    return await _change_team(ctx, command.account_id, rename)


async def put_team_member(ctx: Context, command: c.PutTeamMember) -> c.TeamView:
    put = teams.PutTeamMember(command.actor, command.team_id, command.user_id, ctx.clock.now_ms())
    return await _change_team(ctx, command.account_id, put)


async def remove_team_member(ctx: Context, command: c.RemoveTeamMember) -> c.TeamView:
    """Keys stay in the team: whose they are has nothing to do with whose limits bind them."""
    remove = teams.RemoveTeamMember(
        command.actor, command.team_id, command.user_id, ctx.clock.now_ms()
    )
    return await _change_team(ctx, command.account_id, remove)


async def remove_team(ctx: Context, command: c.RemoveTeam) -> None:
    """Refused while a key is in it, also a suspended one."""
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        inside = [
            key
            for key in await tx.keys_of_account(command.account_id)
            if key.settings.team_id == command.team_id
        ]
        remove = teams.RemoveTeam(command.actor, command.team_id, len(inside), ctx.clock.now_ms())
        await tx.append_account(account, accounts.decide(account, remove))


async def set_limits(ctx: Context, command: c.SetLimits) -> ScopeLimits:
    """Also publishes every key that is in the scope, with the new limits, in the same transaction:
    what one gateway enforces all enforce, and billing with them.
    """
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        change = teams.SetLimits(command.actor, command.scope, command.limits, ctx.clock.now_ms())
        events = accounts.decide(account, change)
        if not events:
            return account.limits.get(command.scope, ScopeLimits(command.scope, NO_LIMITS, 0))
        account = await tx.append_account(account, events)
        inside = is_inside(command.scope)
        keys = [key for key in await tx.keys_of_account(command.account_id) if inside(key)]
        await tx.publish_keys([one for key in keys for one in credentials(key, account)], [])
        return account.limits[command.scope]


def is_inside(scope: str) -> Callable[[Key], bool]:
    """Says which keys a scope's limits bind."""
    kind, name = scopes.kind_of(scope), scopes.id_of(scope)
    match kind:
        case "member":
            return lambda key: key.created_by == name
        case "team":
            return lambda key: key.settings.team_id == name
        case _:
            return lambda _: True


async def held_account(tx: AccountsTransaction, account_id: AccountId) -> Account:
    """The account, held until the end of the transaction. Raises NotFound."""
    await tx.lock(account_id)
    account = await tx.account(account_id)
    if account is None:
        raise NotFound("There is no such account.")
    return account


async def _change_team(
    ctx: Context, account_id: AccountId, command: teams.TeamCommand
) -> c.TeamView:
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, account_id)
        events = accounts.decide(account, command)
        if events:
            account = await tx.append_account(account, events)
        team = team_of(account.teams, command.team_id)
        standing = account.limits.get(scopes.team(team.team_id))
        return c.TeamView(account_id, team, standing.limits if standing else NO_LIMITS)
