"""A person: stream `user:<id>`. The password's hash is no part of the state or of any event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from services.common.errors import Conflict, InvalidArgument, NotFound
from services.common.ids import UserId

NAME_LENGTH_MAX = 200
PASSWORD_LENGTH_MIN = 10
# As OpenID Connect has it.
SUBJECT_LENGTH_MAX = 255
# Argon2 reads the whole password, so that its length has to be bounded before.
PASSWORD_LENGTH_MAX = 1_024


@dataclass(frozen=True, slots=True)
class User:
    """The state of one person; `email` is normalised and in lower case."""

    user_id: UserId
    email: str
    name: str
    created_at_ms: int
    version: int
    # The person at the log-in provider; empty where they never came that way.
    issuer: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class UserSignedUp:
    user_id: UserId
    email: str
    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class PasswordChanged:
    user_id: UserId
    at_ms: int


@dataclass(frozen=True, slots=True)
class IdentityLinked:
    user_id: UserId
    issuer: str
    subject: str
    at_ms: int


UserEvent = UserSignedUp | PasswordChanged | IdentityLinked


@dataclass(frozen=True, slots=True)
class SignUpUser:
    user_id: UserId
    email: str
    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ChangeUserPassword:
    at_ms: int


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    issuer: str
    subject: str
    at_ms: int


UserCommand = SignUpUser | ChangeUserPassword | LinkIdentity


def check_password(field: str, password: str) -> None:
    """Raises InvalidArgument naming `field` where the password is too short or too long."""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise InvalidArgument.of(field, f"must have at least {PASSWORD_LENGTH_MIN} characters")
    if len(password) > PASSWORD_LENGTH_MAX:
        raise InvalidArgument.of(field, f"has more than {PASSWORD_LENGTH_MAX} characters")


def decide(user: User | None, command: UserCommand) -> list[UserEvent]:
    """The events that a command leads to."""
    match command:
        case SignUpUser(user_id, email, name, at_ms):
            if user is not None:
                raise Conflict("The user exists already.")
            if len(name) > NAME_LENGTH_MAX:
                raise InvalidArgument.of("name", f"has more than {NAME_LENGTH_MAX} characters")
            # Someone who gives no name is called by the part of the address before the @.
            return [UserSignedUp(user_id, email, name.strip() or email.partition("@")[0], at_ms)]
        case ChangeUserPassword(at_ms):
            if user is None:
                raise NotFound("There is no such user.")
            return [PasswordChanged(user.user_id, at_ms)]
        case LinkIdentity(issuer, subject, at_ms):
            if user is None:
                raise NotFound("There is no such user.")
            if not issuer or not 1 <= len(subject) <= SUBJECT_LENGTH_MAX:
                raise InvalidArgument.of("identity", "is not whole")
            if (user.issuer, user.subject) == (issuer, subject):
                return []
            return [IdentityLinked(user.user_id, issuer, subject, at_ms)]
        case _:
            assert_never(command)


def evolve(user: User | None, event: UserEvent) -> User:
    """The state after an event."""
    match event:
        case UserSignedUp():
            assert user is None, "a user signs up once"
            return User(event.user_id, event.email, event.name, event.at_ms, 1)
        case PasswordChanged():
            assert user is not None, "the first event of a user is the sign-up"
            return replace(user, version=user.version + 1)
        case IdentityLinked():
            assert user is not None, "the first event of a user is the sign-up"
            return replace(
                user, version=user.version + 1, issuer=event.issuer, subject=event.subject
            )
        case _:
            assert_never(event)
