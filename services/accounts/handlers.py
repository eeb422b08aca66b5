"""What each command does: load, decide, append, publish. One function a command; the routing table
is at the foot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from services.accounts import admin_key_handlers as admin_keys
from services.accounts import commands as c
from services.accounts import identity_handlers as identities
from services.accounts import invitation_handlers as invitations
from services.accounts import key_handlers
from services.accounts import team_handlers as teams
from services.accounts.context import Context
from services.accounts.domain import account as accounts
from services.accounts.domain import user as users
from services.accounts.domain.account import Account, authorise
from services.accounts.domain.credential import credentials
from services.accounts.domain.operation import RecordOperation
from services.accounts.domain.roles import Role
from services.accounts.domain.secret import sha256_hex
from services.accounts.domain.user import User, check_password
from services.accounts.ports import AccountsTransaction
from services.accounts.session_steps import (
    WRONG_CREDENTIALS,
    account_to_enter,
    end_session,
    start_session,
    user_of,
)
from services.accounts.team_handlers import held_account
from services.common.errors import (
    ConcurrencyConflict,
    Conflict,
    Forbidden,
    InvalidArgument,
    NotFound,
    Unauthorized,
)
from services.common.ids import AccountId, UserId

TRIES_MAX = 4


async def sign_up(ctx: Context, command: c.SignUp) -> c.StartedSession:
    check_password("password", command.password)
    async with ctx.store.transaction() as tx:
        if await tx.user_id_of_email(command.email) is not None:
            raise Conflict("The e-mail address has a user already.")
    password_hash = await ctx.passwords.hash(command.password)
    now_ms = ctx.clock.now_ms()
    user_id = UserId(ctx.secrets.new_id("usr"))
    account_id = AccountId(ctx.secrets.new_id("acc"))
    signed_up = users.SignUpUser(user_id, command.email, command.name, now_ms)
    async with ctx.store.transaction() as tx:
        user = await tx.append_user(None, users.decide(None, signed_up), account_id)
        await tx.set_password_hash(user_id, password_hash)
        name = command.account_name.strip() or user.name
        opened = accounts.OpenAccount(account_id, name, user_id, now_ms)
        account = await tx.append_account(None, accounts.decide(None, opened))
        return await start_session(
            ctx, tx, user=user, account=account, user_agent=command.user_agent
        )


async def log_in(ctx: Context, command: c.LogIn) -> c.StartedSession:
    """Takes the same way, and as long, for an unknown address as for a wrong password."""
    ctx.attempts.begin(f"address:{command.email}")
    async with ctx.store.transaction() as tx:
        user_id = await tx.user_id_of_email(command.email)
        known_hash = None if user_id is None else await tx.password_hash(user_id)
    matches = await ctx.passwords.verify(known_hash, command.password)
    if user_id is None or known_hash is None or not matches:
        raise Unauthorized(WRONG_CREDENTIALS)
    ctx.attempts.succeeded(f"address:{command.email}")
    newer_hash = None
    if ctx.passwords.is_outdated(known_hash):
        newer_hash = await ctx.passwords.hash(command.password)
    async with ctx.store.transaction() as tx:
        account = await account_to_enter(tx, user_id)
        # Read again and held: a password that was changed in between lets nobody in.
        if await tx.password_hash(user_id) != known_hash:
            raise Unauthorized(WRONG_CREDENTIALS)
        if newer_hash is not None:
            await tx.set_password_hash(user_id, newer_hash)
        await tx.forget_expired_tokens(user_id, ctx.clock.now_ms())
        user = await user_of(tx, user_id)
        return await start_session(
            ctx, tx, user=user, account=account, user_agent=command.user_agent
        )


async def log_out(ctx: Context, command: c.LogOut) -> None:
    async with ctx.store.transaction() as tx:
        session = await tx.session_of_token(sha256_hex(command.session_token))
        await end_session(ctx, tx, session, reason="log_out")


async def revoke_session(ctx: Context, command: c.RevokeSession) -> None:
    async with ctx.store.transaction() as tx:
        session = await tx.session(command.session_id)
        if session is None or session.user_id != command.user_id:
            raise NotFound("There is no such session.")
        if session.account_id != command.account_id:
            raise NotFound("There is no such session.")
        await end_session(ctx, tx, session, reason="revoked")


async def change_password(ctx: Context, command: c.ChangePassword) -> None:
    check_password("new_password", command.new_password)
    ctx.attempts.begin(f"user:{command.user_id}")
    async with ctx.store.transaction() as tx:
        known_hash = await tx.password_hash(command.user_id)
    if known_hash is None:
        raise Conflict("You have no password here: you log in through your log-in provider.")
    if not await ctx.passwords.verify(known_hash, command.current_password):
        raise InvalidArgument.of("current_password", "is wrong")
    ctx.attempts.succeeded(f"user:{command.user_id}")
    await _put_password(ctx, command, known_hash)


async def set_password(ctx: Context, command: c.SetPassword) -> None:
    """Only for the person whom the provider vouched for just now, and only where there is none:
    a session alone, which may be somebody else's find, gives nobody a way in that lasts.
    """
    check_password("new_password", command.new_password)
    identity = command.identity
    async with ctx.store.transaction() as tx:
        owner = await tx.user_id_of_identity(identity.issuer, identity.subject)
        known_hash = await tx.password_hash(command.user_id)
    if owner != command.user_id:
        raise Forbidden("You logged in as another person at the log-in provider.")
    if known_hash is not None:
        raise Conflict("You have a password already; change it instead.")
    await _put_password(ctx, command, known_hash)


async def _put_password(
    ctx: Context, command: c.ChangePassword | c.SetPassword, known_hash: str | None
) -> None:
    """Puts the new password in the place of the one that was checked; other sessions end."""
    new_hash = await ctx.passwords.hash(command.new_password)
    async with ctx.store.transaction() as tx:
        if await tx.password_hash(command.user_id) != known_hash:
            raise ConcurrencyConflict("The password was changed a moment ago.")
        # Before the sessions are read: a log-in holds the hash until its session can be seen.
        await tx.set_password_hash(command.user_id, new_hash)
        user = await user_of(tx, command.user_id)
        changed = users.decide(user, users.ChangeUserPassword(ctx.clock.now_ms()))
        await tx.append_user(user, changed, command.account_id)
        kept = await tx.session_of_token(sha256_hex(command.session_token))
        for session in await tx.sessions_of_user(command.user_id):
            if kept is None or session.session_id != kept.session_id:
                await end_session(ctx, tx, session, reason="password_changed")


async def suspend_account(ctx: Context, command: c.SuspendAccount) -> Account:
    suspend = accounts.SuspendAccount(command.actor, command.reason, ctx.clock.now_ms())
    return await _switch_account(ctx, command.account_id, suspend)


async def resume_account(ctx: Context, command: c.ResumeAccount) -> Account:
    resume = accounts.ResumeAccount(command.actor, ctx.clock.now_ms())
    return await _switch_account(ctx, command.account_id, resume)


async def record_operation(ctx: Context, command: c.RecordOperation) -> Account:
    record = RecordOperation(
        command.actor, command.action, command.subject, command.note, ctx.clock.now_ms()
    )
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        return await tx.append_account(account, accounts.decide(account, record))


async def _switch_account(
    ctx: Context, account_id: AccountId, command: accounts.SuspendAccount | accounts.ResumeAccount
) -> Account:
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, account_id)
        events = accounts.decide(account, command)
        if not events:
            return account
        account = await tx.append_account(account, events)
        every_key = await tx.keys_of_account(account_id)
        await tx.publish_keys([one for key in every_key for one in credentials(key, account)], [])
        return account


async def add_member(ctx: Context, command: c.AddMember) -> c.MemberView:
    new_hash = await _hash_for_new_user(ctx, command)
    now_ms = ctx.clock.now_ms()
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        known = await tx.user_id_of_email(command.email)
        user_id = known or UserId(ctx.secrets.new_id("usr"))
        add = accounts.AddMember(command.actor, user_id, command.role, now_ms)
        events = accounts.decide(account, add)
        if known is not None:
            user = await user_of(tx, known)
        elif new_hash is None:
            raise ConcurrencyConflict("The person's user has gone.")
        else:
            signed_up = users.SignUpUser(user_id, command.email, command.name, now_ms)
            user = await _sign_up_member(
                tx, signed_up, password_hash=new_hash, account_id=command.account_id
            )
        account = await tx.append_account(account, events)
        return c.MemberView(account.members[user_id], user)


async def _sign_up_member(
    tx: AccountsTransaction,
    signed_up: users.SignUpUser,
    *,
    password_hash: str,
    account_id: AccountId,
) -> User:
    try:
        user = await tx.append_user(None, users.decide(None, signed_up), account_id)
    except Conflict as error:
        # The person signed up at this very moment: the next try finds and adds them.
        raise ConcurrencyConflict("The person's user was made a moment ago.") from error
    await tx.set_password_hash(user.user_id, password_hash)
    return user


async def _hash_for_new_user(ctx: Context, command: c.AddMember) -> str | None:
    """The hash of the first password, where the person has no user yet; made outside of any
    transaction.

    The password of someone who has a user is theirs alone and is not touched.
    """
    async with ctx.store.transaction() as tx:
        authorise(await held_account(tx, command.account_id), command.actor, Role.ADMIN)
        if await tx.user_id_of_email(command.email) is not None:
            return None
    check_password("initial_password", command.initial_password)
    return await ctx.passwords.hash(command.initial_password)


async def change_member_role(ctx: Context, command: c.ChangeMemberRole) -> c.MemberView:
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        change = accounts.ChangeMemberRole(
            command.actor, command.user_id, command.role, ctx.clock.now_ms()
        )
        events = accounts.decide(account, change)
        if events:
            account = await tx.append_account(account, events)
        return c.MemberView(account.members[command.user_id], await user_of(tx, command.user_id))


async def remove_member(ctx: Context, command: c.RemoveMember) -> None:
    """Also ends the person's sessions in this account. Keys stay: they are the account's."""
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        remove = accounts.RemoveMember(command.actor, command.user_id, ctx.clock.now_ms())
        await tx.append_account(account, accounts.decide(account, remove))
        for session in await tx.sessions_of_user(command.user_id):
            if session.account_id == command.account_id:
                await end_session(ctx, tx, session, reason="member_removed")


# Each function takes the command it is listed under; the one cast in `handle` rests on this table.
Handler = Callable[[Context, Any], Awaitable[object]]  # Any: a mapping cannot pair types

HANDLERS: Mapping[type[c.Command[Any]], Handler] = {  # Any: as above
    c.SignUp: sign_up,
    c.LogIn: log_in,
    c.LogInWithIdentity: identities.log_in_with_identity,
    c.ConnectIdentity: identities.connect_identity,
    c.LogOut: log_out,
    c.RevokeSession: revoke_session,
    c.ChangePassword: change_password,
    c.SetPassword: set_password,
    c.SuspendAccount: suspend_account,
    c.ResumeAccount: resume_account,
    c.RecordOperation: record_operation,
    c.AddMember: add_member,
    c.ChangeMemberRole: change_member_role,
    c.RemoveMember: remove_member,
    c.CreateAdminKey: admin_keys.create_admin_key,
    c.RotateAdminKey: admin_keys.rotate_admin_key,
    c.RevokeAdminKey: admin_keys.revoke_admin_key,
    c.Invite: invitations.invite,
    c.RenewInvitation: invitations.renew_invitation,
    c.RevokeInvitation: invitations.revoke_invitation,
    c.LookAtInvitation: invitations.look_at_invitation,
    c.SignUpInvited: invitations.sign_up_invited,
    c.AcceptInvitation: invitations.accept_invitation,
    c.SwitchAccount: invitations.switch_account,
    c.CreateTeam: teams.create_team,
    c.RenameTeam: teams.rename_team,
    c.RemoveTeam: teams.remove_team,
    c.PutTeamMember: teams.put_team_member,
    c.RemoveTeamMember: teams.remove_team_member,
    c.SetLimits: teams.set_limits,
    c.CreateKey: key_handlers.create_key,
    c.UpdateKey: key_handlers.update_key,
    c.SuspendKey: key_handlers.suspend_key,
    c.ResumeKey: key_handlers.resume_key,
    c.RotateKey: key_handlers.rotate_key,
}


async def handle(ctx: Context, command: c.Command[c.ResultT]) -> c.ResultT:
    """Handles one command; again, up to a bound, where another writer was first."""
    handler = HANDLERS[type(command)]
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            return cast(c.ResultT, await handler(ctx, command))
        except ConcurrencyConflict:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")
