"""What the commands about admin keys do: load, decide, append."""

from __future__ import annotations

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.domain import admin_key as admin_keys
from services.accounts.domain.admin_key import AdminKey
from services.accounts.domain.secret import masked, sha256_hex
from services.accounts.team_handlers import held_account
from services.common.ids import AdminKeyId


async def create_admin_key(ctx: Context, command: c.CreateAdminKey) -> c.IssuedAdminKey:
    plain = ctx.secrets.admin_key()
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        now_ms = ctx.clock.now_ms()
        known = await tx.admin_keys_of_account(command.account_id)
        issue = admin_keys.IssueAdminKey(
            admin_key_id=AdminKeyId(ctx.secrets.new_id("adk")),
            account=account,
            actor=command.actor,
            key_hash=sha256_hex(plain),
            masked_key=masked(plain),
            label=command.label,
            permissions=command.permissions,
            key_scope=command.key_scope,
            expires_at_ms=command.expires_at_ms,
            live_before=sum(one.is_live(now_ms) for one in known),
            at_ms=now_ms,
        )
        return c.IssuedAdminKey(
            await tx.append_admin_key(None, admin_keys.decide(None, issue)), plain
        )


async def rotate_admin_key(ctx: Context, command: c.RotateAdminKey) -> c.IssuedAdminKey:
    plain = ctx.secrets.admin_key()
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        key = await tx.admin_key(command.admin_key_id)
        rotate = admin_keys.RotateAdminKey(
            account=account,
            actor=command.actor,
            key_hash=sha256_hex(plain),
            masked_key=masked(plain),
            grace_s=command.grace_s,
            expires_at_ms=command.expires_at_ms,
            at_ms=ctx.clock.now_ms(),
        )
        return c.IssuedAdminKey(
            await tx.append_admin_key(key, admin_keys.decide(key, rotate)), plain
        )


async def revoke_admin_key(ctx: Context, command: c.RevokeAdminKey) -> AdminKey:
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        key = await tx.admin_key(command.admin_key_id)
        revoke = admin_keys.RevokeAdminKey(
            account, command.actor, command.reason, ctx.clock.now_ms()
        )
        events = admin_keys.decide(key, revoke)
        assert key is not None, "one that never was is refused above"
        return await tx.append_admin_key(key, events) if events else key
