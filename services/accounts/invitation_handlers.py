"""What the commands about invitations and memberships do: load, decide, append."""

from __future__ import annotations

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.domain import account as accounts
from services.accounts.domain import invitation as invitations
from services.accounts.domain import user as users
from services.accounts.domain.account import Account
from services.accounts.domain.invitation import UNKNOWN_LINK, Invitation, check_usable
from services.accounts.domain.roles import OPERATOR, Actor
from services.accounts.domain.secret import sha256_hex
from services.accounts.domain.user import check_password
from services.accounts.ports import AccountsTransaction
from services.accounts.session_steps import end_session, start_session, user_of
from services.accounts.team_handlers import held_account
from services.common.errors import Conflict, Forbidden, NotFound, Unauthorized
from services.common.ids import InvitationId, UserId


async def invite(ctx: Context, command: c.Invite) -> c.SentInvitation:
    token = ctx.secrets.invitation_token()
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        known = await tx.user_id_of_email(command.email)
        make = invitations.MakeInvitation(
            invitation_id=InvitationId(ctx.secrets.new_id("inv")),
            account=account,
            actor=command.actor,
            email=command.email,
            role=command.role,
            token_hash=sha256_hex(token),
            lifetime_ms=ctx.invitation_lifetime_ms,
            standing=tuple(await tx.standing_invitations(command.account_id)),
            at_ms=ctx.clock.now_ms(),
        )
        events = invitations.decide(None, make)
        if known in account.members:
            raise Conflict("This person is a member of the account already.")
        invitation = await tx.append_invitation(None, events)
        return c.SentInvitation(invitation, token, account.name)


async def renew_invitation(ctx: Context, command: c.RenewInvitation) -> c.SentInvitation:
    token = ctx.secrets.invitation_token()
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        invitation = await tx.invitation(command.invitation_id)
        renew = invitations.RenewInvitation(
            account, command.actor, sha256_hex(token), ctx.invitation_lifetime_ms,
            ctx.clock.now_ms(),
        )  # fmt: skip
        events = invitations.decide(invitation, renew)
        invitation = await tx.append_invitation(invitation, events)
        return c.SentInvitation(invitation, token, account.name)


async def revoke_invitation(ctx: Context, command: c.RevokeInvitation) -> None:
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        invitation = await tx.invitation(command.invitation_id)
        revoke = invitations.RevokeInvitation(account, command.actor, ctx.clock.now_ms())
        await tx.append_invitation(invitation, invitations.decide(invitation, revoke))


async def look_at_invitation(ctx: Context, command: c.LookAtInvitation) -> c.Offer:
    """What the holder of a link may know before they are anybody."""
    async with ctx.store.transaction() as tx:
        invitation = await _of_token(tx, command.token)
        check_usable(invitation, ctx.clock.now_ms())
        account = await tx.account(invitation.account_id)
        assert account is not None, "an invitation is made by an account"
        host = await tx.user(UserId(invitation.invited_by))
        known = await tx.user_id_of_email(invitation.email)
        return c.Offer(invitation, account.name, host.name if host else "", known is not None)


async def sign_up_invited(ctx: Context, command: c.SignUpInvited) -> c.StartedSession:
    """The person gets no account of their own: they are here for the one they were invited to."""
    check_password("password", command.password)
    async with ctx.store.transaction() as tx:
        found = await _of_token(tx, command.token)
        check_usable(found, ctx.clock.now_ms())
        _has_no_user(await tx.user_id_of_email(found.email))
    password_hash = await ctx.passwords.hash(command.password)
    now_ms = ctx.clock.now_ms()
    user_id = UserId(ctx.secrets.new_id("usr"))
    async with ctx.store.transaction() as tx:
        account, invitation = await _held(tx, command.token)
        _has_no_user(await tx.user_id_of_email(invitation.email))
        signed_up = users.SignUpUser(user_id, invitation.email, command.name, now_ms)
        user_events = users.decide(None, signed_up)
        user = await tx.append_user(None, user_events, invitation.account_id)
        await tx.set_password_hash(user_id, password_hash)
        account = await _join(tx, invitation, account=account, user=user, now_ms=now_ms)
        return await start_session(
            ctx, tx, user=user, account=account, user_agent=command.user_agent
        )


async def accept_invitation(ctx: Context, command: c.AcceptInvitation) -> c.StartedSession:
    async with ctx.store.transaction() as tx:
        account, invitation = await _held(tx, command.token)
        user = await user_of(tx, command.user_id)
        now_ms = ctx.clock.now_ms()
        account = await _join(tx, invitation, account=account, user=user, now_ms=now_ms)
        await _leave(ctx, tx, token=command.session_token, user_id=command.user_id)
        return await start_session(
            ctx, tx, user=user, account=account, user_agent=command.user_agent
        )


async def switch_account(ctx: Context, command: c.SwitchAccount) -> c.StartedSession:
    async with ctx.store.transaction() as tx:
        account = await held_account(tx, command.account_id)
        # An account that is not the person's looks like one that never was.
        if command.user_id not in account.members:
            raise NotFound("There is no such account.")
        user = await user_of(tx, command.user_id)
        await _leave(ctx, tx, token=command.session_token, user_id=command.user_id)
        return await start_session(
            ctx, tx, user=user, account=account, user_agent=command.user_agent
        )


async def _leave(ctx: Context, tx: AccountsTransaction, *, token: str, user_id: UserId) -> None:
    """Ends the session that the new one takes the place of; only a live one of the same person
    buys one.
    """
    session = await tx.session_of_token(sha256_hex(token))
    alive = session is not None and session.is_open(ctx.clock.now_ms())
    if session is None or not alive or session.user_id != user_id:
        raise Unauthorized("The session has ended; log in again.")
    await end_session(ctx, tx, session, reason="switched")


async def _of_token(tx: AccountsTransaction, token: str) -> Invitation:
    invitation = await tx.invitation_of_token(sha256_hex(token))
    if invitation is None:
        raise NotFound(UNKNOWN_LINK)
    return invitation


async def _held(tx: AccountsTransaction, token: str) -> tuple[Account, Invitation]:
    """The account, held, and the invitation as it is while nobody else can use it."""
    account = await held_account(tx, (await _of_token(tx, token)).account_id)
    return account, await _of_token(tx, token)


async def _join(
    tx: AccountsTransaction,
    invitation: Invitation,
    *,
    account: Account,
    user: users.User,
    now_ms: int,
) -> Account:
    """Uses the invitation up. The role is granted by whoever invited, if they still may."""
    accept = invitations.AcceptInvitation(user.user_id, user.email, now_ms)
    accepted = invitations.decide(invitation, accept)
    by = invitation.invited_by
    host = Actor(UserId("") if by == OPERATOR else UserId(by), is_operator=by == OPERATOR)
    add = accounts.AddMember(host, user.user_id, invitation.role, now_ms)
    try:
        added = accounts.decide(account, add)
    except Forbidden as error:
        raise Conflict(
            "Whoever invited you may no longer invite people. Ask for a new invitation."
        ) from error
    await tx.append_invitation(invitation, accepted)
    return await tx.append_account(account, added)


def _has_no_user(known: UserId | None) -> None:
    if known is not None:
        raise Conflict("This address has a log-in already: log in, then accept the invitation.")
