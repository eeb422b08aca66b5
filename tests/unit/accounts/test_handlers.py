"""The handlers on the store in memory: what a command leads to, and what outsiders can tell."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.accounts import commands as c
from services.accounts.adapters.attempts_memory import MemoryAttempts
from services.accounts.adapters.passwords_argon2 import Argon2Passwords
from services.accounts.adapters.secrets_system import SystemSecrets
from services.accounts.adapters.store_memory import MemoryAccountsStore
from services.accounts.context import Context
from services.accounts.domain.key_settings import KeySettings
from services.accounts.domain.roles import Actor, Role
from services.accounts.domain.secret import sha256_hex
from services.accounts.handlers import HANDLERS, handle
from services.accounts.session_steps import WRONG_CREDENTIALS
from services.common.clock import FakeClock
from services.common.errors import (
    AppError,
    Conflict,
    Forbidden,
    InvalidArgument,
    NotFound,
    RateLimitExceeded,
    Unauthorized,
)
from services.common.events import EventRecord
from services.common.ids import SessionId, UserId
from tests.unit.accounts.builders import OPERATOR

PASSWORD = "correct horse battery"
LIFETIME_MS = 60_000


@dataclass
class RecordingPasswords(Argon2Passwords):
    """The real thing, which also notes what it was asked to compare with."""

    compared: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(time_cost=1, memory_kib=64)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        self.compared.append(password_hash)
        return await super().verify(password_hash, password)


@dataclass(frozen=True, slots=True)
class Service:
    """A service in memory, with its parts at hand."""

    clock: FakeClock
    store: MemoryAccountsStore
    passwords: RecordingPasswords
    context: Context

    async def sign_up(self, email: str = "ada@example.com") -> c.StartedSession:
        return await handle(self.context, c.SignUp(email, PASSWORD))

    async def log_in(
        self, email: str = "ada@example.com", password: str = PASSWORD
    ) -> c.StartedSession:
        return await handle(self.context, c.LogIn(email, password))

    def types(self) -> list[str]:
        return [record.type.rpartition(".")[2] for record in self.store.tables.events]

    def is_open(self, session_id: SessionId) -> bool:
        return self.store.tables.sessions[session_id].is_open(self.clock.now_ms())


@pytest.fixture
def service() -> Service:
    clock = FakeClock()
    store = MemoryAccountsStore(clock)
    passwords = RecordingPasswords()
    context = Context(
        store=store,
        passwords=passwords,
        attempts=MemoryAttempts(clock, attempts_max=5, window_s=60, subjects_max=100),
        secrets=SystemSecrets(clock),
        clock=clock,
        session_lifetime_ms=LIFETIME_MS,
        invitation_lifetime_ms=LIFETIME_MS,
    )
    return Service(clock, store, passwords, context)


def owner_of(started: c.StartedSession) -> Actor:
    return Actor(started.user.user_id)


def add_member(
    started: c.StartedSession,
    role: Role = Role.DEVELOPER,
    *,
    email: str = "bob@example.com",
    password: str = PASSWORD,
) -> c.AddMember:
    return c.AddMember(
        actor=owner_of(started),
        account_id=started.account.account_id,
        email=email,
        name="Bob",
        role=role,
        initial_password=password,
    )


def test_every_command_has_a_handler() -> None:
    commands = {
        value
        for value in vars(c).values()
        if isinstance(value, type) and issubclass(value, c.Command) and value is not c.Command
    }
    assert set(HANDLERS) == commands


async def test_signing_up_makes_user_account_owner_and_session(service: Service) -> None:
    started = await service.sign_up()
    assert service.types() == ["UserSignedUp", "AccountOpened", "MemberAdded", "SessionStarted"]
    assert started.role is Role.OWNER
    assert started.account.name == started.user.name == "ada"
    assert started.expires_at_ms == service.clock.now_ms() + LIFETIME_MS


async def test_secrets_are_kept_as_hashes_and_are_in_no_event(service: Service) -> None:
    started = await service.sign_up()
    tables = service.store.tables
    assert tables.tokens == {started.session_id: sha256_hex(started.token)}
    password_hash = tables.passwords[started.user.user_id]
    assert password_hash.startswith("$argon2id$")
    stored = b"".join(record.to_bytes() for record in tables.events)
    for secret in (PASSWORD, password_hash, started.token, sha256_hex(started.token)):
        assert secret.encode() not in stored


async def test_a_short_password_makes_no_user(service: Service) -> None:
    with pytest.raises(InvalidArgument, match="password"):
        await handle(service.context, c.SignUp("ada@example.com", "short"))
    assert service.types() == []


async def test_an_address_signs_up_once(service: Service) -> None:
    await service.sign_up()
    with pytest.raises(Conflict):
        await service.sign_up()


async def test_an_unknown_address_and_a_wrong_password_cannot_be_told_apart(
    service: Service,
) -> None:
    await service.sign_up()
    errors = []
    for email in ("ada@example.com", "eve@example.com"):
        with pytest.raises(Unauthorized) as refused:
            await service.log_in(email, "a wrong password")
        errors.append((refused.value.message, refused.value.extra, refused.value.details))
    assert errors[0] == errors[1] == (WRONG_CREDENTIALS, {}, ())
    # The unknown address took the same slow comparison.
    assert len(service.passwords.compared) == 2
    assert service.passwords.compared[1] is None


async def test_guessing_has_to_wait_for_unknown_addresses_too(service: Service) -> None:
    await service.sign_up()
    for email in ("ada@example.com", "eve@example.com"):
        for _ in range(5):
            with pytest.raises(Unauthorized):
                await service.log_in(email, "a wrong password")
        with pytest.raises(RateLimitExceeded):
            await service.log_in(email, PASSWORD)
    await service.clock.advance(60)
    await service.log_in()


async def test_many_guesses_at_once_do_not_slip_through(service: Service) -> None:
    await service.sign_up()
    guesses = [service.log_in(password="a wrong password") for _ in range(20)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(one, Unauthorized) for one in results) == 5
    assert sum(isinstance(one, RateLimitExceeded) for one in results) == 15


async def test_a_hash_of_older_parameters_is_replaced_at_the_next_log_in(service: Service) -> None:
    started = await service.sign_up()
    stronger = Argon2Passwords(time_cost=2, memory_kib=64)
    newer = replace(service.context, passwords=stronger)
    await handle(newer, c.LogIn("ada@example.com", PASSWORD))
    assert "t=2" in service.store.tables.passwords[started.user.user_id]
    await handle(newer, c.LogIn("ada@example.com", PASSWORD))


async def test_logging_out_ends_the_session_once(service: Service) -> None:
    started = await service.sign_up()
    for _ in range(2):
        await handle(service.context, c.LogOut(started.token))
    await handle(service.context, c.LogOut("no such token"))
    assert not service.is_open(started.session_id)
    assert service.types().count("SessionEnded") == 1


async def test_nobody_revokes_the_session_of_another(service: Service) -> None:
    ada, eve = await service.sign_up(), await service.sign_up("eve@example.com")
    with pytest.raises(NotFound):
        await handle(
            service.context,
            c.RevokeSession(eve.user.user_id, eve.account.account_id, ada.session_id),
        )
    with pytest.raises(NotFound):
        await handle(
            service.context,
            c.RevokeSession(ada.user.user_id, eve.account.account_id, ada.session_id),
        )
    assert service.is_open(ada.session_id)


def change_password(started: c.StartedSession, current: str = PASSWORD) -> c.ChangePassword:
    return c.ChangePassword(
        user_id=started.user.user_id,
        account_id=started.account.account_id,
        current_password=current,
        new_password="another good password",
        session_token=started.token,
    )


async def test_a_new_password_ends_every_other_session(service: Service) -> None:
    kept, other = await service.sign_up(), await service.log_in()
    await handle(service.context, change_password(kept))
    assert service.is_open(kept.session_id)
    assert not service.is_open(other.session_id)
    with pytest.raises(Unauthorized):
        await service.log_in()
    await service.log_in(password="another good password")


async def test_a_new_password_needs_the_current_one(service: Service) -> None:
    started = await service.sign_up()
    with pytest.raises(InvalidArgument, match="current_password"):
        await handle(service.context, change_password(started, "a wrong password"))
    assert "PasswordChanged" not in service.types()


async def test_a_new_member_can_log_in_with_the_first_password(service: Service) -> None:
    started = await service.sign_up()
    view = await handle(service.context, add_member(started))
    assert (view.member.role, view.user.email) == (Role.DEVELOPER, "bob@example.com")
    bob = await service.log_in("bob@example.com")
    assert (bob.account.account_id, bob.role) == (started.account.account_id, Role.DEVELOPER)


async def test_adding_someone_who_has_a_user_leaves_their_password_alone(service: Service) -> None:
    ada, bob = await service.sign_up(), await service.sign_up("bob@example.com")
    await service.clock.advance(1)
    await handle(service.context, add_member(ada, password="chosen by someone else"))
    with pytest.raises(Unauthorized):
        await service.log_in("bob@example.com", "chosen by someone else")
    again = await service.log_in("bob@example.com")
    # One's own account comes first.
    assert again.account.account_id == bob.account.account_id


async def test_a_new_person_needs_a_first_password(service: Service) -> None:
    started = await service.sign_up()
    with pytest.raises(InvalidArgument, match="initial_password"):
        await handle(service.context, add_member(started, password=""))


async def test_a_refused_member_leaves_no_user_behind(service: Service) -> None:
    started = await service.sign_up()
    await handle(service.context, add_member(started, Role.ADMIN))
    bob = await service.log_in("bob@example.com")
    with pytest.raises(Forbidden):
        await handle(service.context, add_member(bob, Role.OWNER, email="eve@example.com"))
    assert {user.email for user in service.store.tables.users.values()} == {
        "ada@example.com",
        "bob@example.com",
    }


async def test_two_accounts_that_add_a_new_person_at_once_both_get_them(service: Service) -> None:
    ada, eve = await service.sign_up(), await service.sign_up("eve@example.com")
    views = await asyncio.gather(
        handle(service.context, add_member(ada)), handle(service.context, add_member(eve))
    )
    assert views[0].user == views[1].user


async def test_a_removed_member_is_out_at_once(service: Service) -> None:
    started = await service.sign_up()
    await handle(service.context, add_member(started))
    bob = await service.log_in("bob@example.com")
    account_id = started.account.account_id
    removal = c.RemoveMember(owner_of(started), account_id, bob.user.user_id)
    await handle(service.context, removal)
    assert not service.is_open(bob.session_id)
    with pytest.raises(Forbidden):
        await handle(service.context, c.CreateKey(owner_of(bob), account_id, KeySettings("k")))
    with pytest.raises(Forbidden, match="not a member"):
        await service.log_in("bob@example.com")


async def test_a_key_is_shown_once_and_kept_as_a_hash(service: Service) -> None:
    started = await service.sign_up()
    account_id = started.account.account_id
    issued = await handle(
        service.context, c.CreateKey(owner_of(started), account_id, KeySettings("k"))
    )
    assert issued.key.key_hash == sha256_hex(issued.plain_key)
    assert issued.plain_key not in repr(issued)
    stored = b"".join(record.to_bytes() for record in service.store.tables.events)
    assert issued.plain_key.encode() not in stored


async def test_a_suspended_account_publishes_all_its_keys_again(service: Service) -> None:
    started = await service.sign_up()
    account_id = started.account.account_id
    for number in range(3):
        create = c.CreateKey(owner_of(started), account_id, KeySettings(f"k{number}"))
        await handle(service.context, create)
    for command, expected in (
        (c.SuspendAccount(OPERATOR, account_id, "unpaid"), True),
        (c.ResumeAccount(OPERATOR, account_id), False),
    ):
        before = len(service.store.tables.outbox)
        await handle(service.context, command)
        told = service.store.tables.outbox[before + 1 :]
        states = [EventRecord.from_bytes(value).message() for _, _, value in told]
        assert [state.account_suspended for state in states] == [expected] * 3  # type: ignore[attr-defined] # KeyState
    await service.log_in()


async def test_a_suspended_account_lets_its_people_log_in(service: Service) -> None:
    started = await service.sign_up()
    await handle(service.context, c.SuspendAccount(OPERATOR, started.account.account_id, ""))
    assert (await service.log_in()).account.suspended


async def test_a_viewer_writes_no_keys_whatever_the_token_said(service: Service) -> None:
    started = await service.sign_up()
    await handle(service.context, add_member(started, Role.VIEWER))
    bob = await service.log_in("bob@example.com")
    create = c.CreateKey(owner_of(bob), started.account.account_id, KeySettings("k"))
    with pytest.raises(Forbidden, match="developer"):
        await handle(service.context, create)


async def test_a_stranger_cannot_tell_another_tenants_key_from_none(service: Service) -> None:
    ada, eve = await service.sign_up(), await service.sign_up("eve@example.com")
    create = c.CreateKey(owner_of(ada), ada.account.account_id, KeySettings("k"))
    key = (await handle(service.context, create)).key
    messages = []
    for key_id in (key.key_id, "key_none"):
        with pytest.raises(NotFound) as refused:
            await handle(
                service.context,
                c.SuspendKey(owner_of(eve), eve.account.account_id, key_id),  # type: ignore[arg-type] # any text
            )
        messages.append(refused.value.message)
    assert messages[0] == messages[1]


async def test_an_actor_without_membership_changes_nothing(service: Service) -> None:
    started = await service.sign_up()
    before = service.types()
    account_id = started.account.account_id
    stranger = Actor(UserId("usr_stranger"))
    refused: list[c.Command[Any]] = [  # Any: commands of any result
        c.CreateKey(stranger, account_id, KeySettings("k")),
        c.RemoveMember(stranger, account_id, started.user.user_id),
        c.SuspendAccount(stranger, account_id, ""),
    ]
    for command in refused:
        with pytest.raises(AppError):
            await handle(service.context, command)
    assert service.types() == before
