"""Steps that several commands take inside their transaction: find the person, start a session,
end one.
"""

from __future__ import annotations

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.domain import session as sessions
from services.accounts.domain.account import Account
from services.accounts.domain.secret import sha256_hex
from services.accounts.domain.session import EndReason, Session
from services.accounts.domain.user import User
from services.accounts.ports import AccountsTransaction
from services.common.errors import Forbidden, NotFound
from services.common.ids import SessionId, UserId

# The same words for an unknown address and a wrong password.
WRONG_CREDENTIALS = "The e-mail address or the password is wrong."


async def account_to_enter(tx: AccountsTransaction, user_id: UserId) -> Account:
    """The account of the person's longest membership, held until the end of the transaction."""
    for account_id in await tx.accounts_of_user(user_id):
        await tx.lock(account_id)
        account = await tx.account(account_id)
        if account is not None and user_id in account.members:
            return account
    raise Forbidden("You are not a member of any account.")


async def start_session(
    ctx: Context, tx: AccountsTransaction, *, user: User, account: Account, user_agent: str
) -> c.StartedSession:
    """A new session with a token of its own, whatever the caller had before."""
    token = ctx.secrets.session_token()
    start = sessions.StartSession(
        session_id=SessionId(ctx.secrets.new_id("ses")),
        user_id=user.user_id,
        account_id=account.account_id,
        user_agent=user_agent,
        lifetime_ms=ctx.session_lifetime_ms,
        at_ms=ctx.clock.now_ms(),
    )
    session = await tx.append_session(None, sessions.decide(None, start))
    await tx.set_session_token(session.session_id, sha256_hex(token))
    role = account.members[user.user_id].role
    return c.StartedSession(token, session.session_id, user, account, role, session.expires_at_ms)


async def end_session(
    ctx: Context, tx: AccountsTransaction, session: Session | None, *, reason: EndReason
) -> None:
    """Ends a session; one that has ended, or never was, changes nothing."""
    events = sessions.decide(session, sessions.EndSession(reason, ctx.clock.now_ms()))
    if events:
        await tx.append_session(session, events)


async def user_of(tx: AccountsTransaction, user_id: UserId) -> User:
    """The person. Raises NotFound."""
    user = await tx.user(user_id)
    if user is None:
        raise NotFound("There is no such user.")
    return user
