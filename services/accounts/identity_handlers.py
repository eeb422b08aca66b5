"""Logging in through a log-in provider: which user a checked identity is.

The address finds a user only where the provider vouches for it, and only one without a password: a
password may have been set by somebody who never owned the address, so that its holder has to prove
once that they are the same person.
"""

from __future__ import annotations

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.domain import account as accounts
from services.accounts.domain import user as users
from services.accounts.domain.account import Account
from services.accounts.domain.user import User
from services.accounts.ports import AccountsTransaction
from services.accounts.session_steps import (
    WRONG_CREDENTIALS,
    account_to_enter,
    start_session,
    user_of,
)
from services.common.errors import ConcurrencyConflict, Conflict, Forbidden, Unauthorized
from services.common.ids import AccountId, UserId

UNVERIFIED = "The log-in provider does not vouch for your e-mail address; verify it there first."


async def log_in_with_identity(
    ctx: Context, command: c.LogInWithIdentity
) -> c.StartedSession | None:
    """None where the address has a user with a password: that has to be connected first."""
    identity = command.identity
    async with ctx.store.transaction() as tx:
        known = await tx.user_id_of_identity(identity.issuer, identity.subject)
        if known is not None:
            return await _enter(ctx, tx, known, user_agent=command.user_agent)
        if not identity.email_verified:
            raise Forbidden(UNVERIFIED)
        by_email = await tx.user_id_of_email(identity.email)
        if by_email is None:
            user, account = await _sign_up(ctx, tx, command)
            return await start_session(
                ctx, tx, user=user, account=account, user_agent=command.user_agent
            )
        if await tx.password_hash(by_email) is not None:
            return None
        if (await user_of(tx, by_email)).issuer == identity.issuer:
            # The provider gave the address to somebody else since.
            raise Conflict("This address belongs to another person of the same log-in provider.")
        await _link(ctx, tx, by_email, identity=identity)
        return await _enter(ctx, tx, by_email, user_agent=command.user_agent)


async def connect_identity(ctx: Context, command: c.ConnectIdentity) -> c.StartedSession:
    """As a log-in with the password, in the same words and with the same bound on guesses."""
    identity = command.identity
    if not identity.email_verified:
        raise Forbidden(UNVERIFIED)
    ctx.attempts.begin(f"address:{identity.email}")
    async with ctx.store.transaction() as tx:
        user_id = await tx.user_id_of_email(identity.email)
        known_hash = None if user_id is None else await tx.password_hash(user_id)
    matches = await ctx.passwords.verify(known_hash, command.password)
    if user_id is None or known_hash is None or not matches:
        raise Unauthorized(WRONG_CREDENTIALS)
    ctx.attempts.succeeded(f"address:{identity.email}")
    async with ctx.store.transaction() as tx:
        if await tx.password_hash(user_id) != known_hash:
            raise Unauthorized(WRONG_CREDENTIALS)
        await _link(ctx, tx, user_id, identity=identity)
        return await _enter(ctx, tx, user_id, user_agent=command.user_agent)


async def _enter(
    ctx: Context, tx: AccountsTransaction, user_id: UserId, *, user_agent: str
) -> c.StartedSession:
    account = await account_to_enter(tx, user_id)
    await tx.forget_expired_tokens(user_id, ctx.clock.now_ms())
    user = await user_of(tx, user_id)
    return await start_session(ctx, tx, user=user, account=account, user_agent=user_agent)


async def _sign_up(
    ctx: Context, tx: AccountsTransaction, command: c.LogInWithIdentity
) -> tuple[User, Account]:
    """A new user without a password, with an account of their own."""
    now_ms = ctx.clock.now_ms()
    user_id = UserId(ctx.secrets.new_id("usr"))
    account_id = AccountId(ctx.secrets.new_id("acc"))
    name = command.name[: users.NAME_LENGTH_MAX]
    signed_up = users.SignUpUser(user_id, command.identity.email, name, now_ms)
    try:
        user = await tx.append_user(None, users.decide(None, signed_up), account_id)
        link = users.LinkIdentity(command.identity.issuer, command.identity.subject, now_ms)
        user = await tx.append_user(user, users.decide(user, link), account_id)
    except Conflict as error:
        # The same person came twice at this very moment: the next try finds them.
        raise ConcurrencyConflict("The person's user was made a moment ago.") from error
    opened = accounts.OpenAccount(account_id, user.name, user_id, now_ms)
    return user, await tx.append_account(None, accounts.decide(None, opened))


async def _link(
    ctx: Context, tx: AccountsTransaction, user_id: UserId, *, identity: c.Identity
) -> None:
    user = await user_of(tx, user_id)
    link = users.LinkIdentity(identity.issuer, identity.subject, ctx.clock.now_ms())
    events = users.decide(user, link)
    if events:
        account = await account_to_enter(tx, user_id)
        await tx.append_user(user, events, account.account_id)
