"""A session of a person in one account: stream `session:<id>`. Its token's hash is kept apart from
the events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from services.common.errors import Conflict
from services.common.ids import AccountId, SessionId, UserId

USER_AGENT_LENGTH_MAX = 400

EndReason = Literal["log_out", "revoked", "password_changed", "member_removed", "switched"]


@dataclass(frozen=True, slots=True)
class Session:
    """The state of one session."""

    session_id: SessionId
    user_id: UserId
    account_id: AccountId
    user_agent: str
    started_at_ms: int
    expires_at_ms: int
    version: int
    # 0 while it goes on.
    ended_at_ms: int = 0

    def is_open(self, now_ms: int) -> bool:
        """True where the session was neither ended nor has expired."""
        return self.ended_at_ms == 0 and now_ms < self.expires_at_ms


@dataclass(frozen=True, slots=True)
class SessionStarted:
    session_id: SessionId
    user_id: UserId
    account_id: AccountId
    user_agent: str
    expires_at_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class SessionEnded:
    session_id: SessionId
    user_id: UserId
    reason: str
    at_ms: int


SessionEvent = SessionStarted | SessionEnded


@dataclass(frozen=True, slots=True)
class StartSession:
    session_id: SessionId
    user_id: UserId
    account_id: AccountId
    user_agent: str
    lifetime_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class EndSession:
    reason: EndReason
    at_ms: int


SessionCommand = StartSession | EndSession


def decide(session: Session | None, command: SessionCommand) -> list[SessionEvent]:
    """The events that a command leads to; ending what has ended, or never was, changes nothing."""
    match command:
        case StartSession():
            if session is not None:
                raise Conflict("The session exists already.")
            return [
                SessionStarted(
                    command.session_id,
                    command.user_id,
                    command.account_id,
                    command.user_agent[:USER_AGENT_LENGTH_MAX],
                    command.at_ms + command.lifetime_ms,
                    command.at_ms,
                )
            ]
        case EndSession(reason, at_ms):
            if session is None or not session.is_open(at_ms):
                return []
            return [SessionEnded(session.session_id, session.user_id, reason, at_ms)]
        case _:
            assert_never(command)


def evolve(session: Session | None, event: SessionEvent) -> Session:
    """The state after an event."""
    match event:
        case SessionStarted():
            assert session is None, "a session starts once"
            return Session(
                session_id=event.session_id,
                user_id=event.user_id,
                account_id=event.account_id,
                user_agent=event.user_agent,
                started_at_ms=event.at_ms,
                expires_at_ms=event.expires_at_ms,
                version=1,
            )
        case SessionEnded():
            assert session is not None, "only a session that started can end"
            return replace(session, version=session.version + 1, ended_at_ms=event.at_ms)
        case _:
            assert_never(event)
