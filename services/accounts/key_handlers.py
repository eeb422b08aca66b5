"""What the commands about API keys do: load, decide, append, and publish what gateways admit by."""

from __future__ import annotations

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.domain import key as keys
from services.accounts.domain.account import Account, authorise, check_team_change
from services.accounts.domain.credential import credentials, retired
from services.accounts.domain.key import Key
from services.accounts.domain.roles import Actor, Role
from services.accounts.domain.secret import masked, sha256_hex
from services.accounts.ports import AccountsTransaction
from services.accounts.team_handlers import held_account
from services.common.errors import NotFound
from services.common.ids import AccountId, KeyId


async def create_key(ctx: Context, command: c.CreateKey) -> c.IssuedKey:
    plain_key = ctx.secrets.plain_key()
    async with ctx.store.transaction() as tx:
        account = await _account_to_write(tx, command.account_id, command.actor)
        check_team_change(account, command.actor, before="", after=command.settings.team_id)
        issue = keys.IssueKey(
            key_id=KeyId(ctx.secrets.new_id("key")),
            account_id=command.account_id,
            key_hash=sha256_hex(plain_key),
            masked_key=masked(plain_key),
            settings=command.settings,
            keys_before=await tx.count_keys(command.account_id),
            by=command.actor.name,
            at_ms=ctx.clock.now_ms(),
        )
        by = command.actor
        key = await _apply(tx, issue, account=account, before=None, by=by)
        return c.IssuedKey(key, plain_key)


async def update_key(ctx: Context, command: c.UpdateKey) -> Key:
    change = keys.ChangeKey(command.change, command.mask, command.actor.name, ctx.clock.now_ms())
    return await _write_key(ctx, command, change)


async def suspend_key(ctx: Context, command: c.SuspendKey) -> Key:
    return await _write_key(ctx, command, keys.SuspendKey(command.actor.name, ctx.clock.now_ms()))


async def resume_key(ctx: Context, command: c.ResumeKey) -> Key:
    return await _write_key(ctx, command, keys.ResumeKey(command.actor.name, ctx.clock.now_ms()))


async def rotate_key(ctx: Context, command: c.RotateKey) -> c.IssuedKey:
    plain_key = ctx.secrets.plain_key()
    rotate = keys.RotateKey(
        key_hash=sha256_hex(plain_key),
        masked_key=masked(plain_key),
        grace_s=command.grace_s,
        by=command.actor.name,
        at_ms=ctx.clock.now_ms(),
    )
    return c.IssuedKey(await _write_key(ctx, command, rotate), plain_key)


async def _write_key(
    ctx: Context,
    command: c.UpdateKey | c.SuspendKey | c.ResumeKey | c.RotateKey,
    decision: keys.KeyCommand,
) -> Key:
    async with ctx.store.transaction() as tx:
        account = await _account_to_write(tx, command.account_id, command.actor)
        key = await tx.key(command.key_id)
        # Another tenant's key looks like one that never was.
        if key is None or key.account_id != command.account_id:
            raise NotFound("There is no such key.")
        if isinstance(command, c.UpdateKey) and "team_id" in command.mask:
            team_id = command.change.team_id
            check_team_change(account, command.actor, before=key.settings.team_id, after=team_id)
        by = command.actor
        return await _apply(tx, decision, account=account, before=key, by=by)


async def _account_to_write(
    tx: AccountsTransaction, account_id: AccountId, actor: Actor
) -> Account:
    account = await held_account(tx, account_id)
    authorise(account, actor, Role.DEVELOPER)
    return account


async def _apply(
    tx: AccountsTransaction,
    decision: keys.KeyCommand,
    *,
    account: Account,
    before: Key | None,
    by: Actor,
) -> Key:
    events = keys.through(keys.decide(before, decision), by.admin_key_id)
    if not events:
        assert before is not None, "issuing a key always leads to an event"
        return before
    key = await tx.append_key(before, events)
    await tx.publish_keys(credentials(key, account), retired(before, key))
    return key
