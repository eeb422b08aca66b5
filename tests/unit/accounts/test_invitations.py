"""Who may invite whom, and what becomes of a link."""

from __future__ import annotations

import dataclasses

import pytest

from services.accounts import commands as c
from services.accounts.adapters.attempts_memory import MemoryAttempts
from services.accounts.adapters.passwords_argon2 import Argon2Passwords
from services.accounts.adapters.secrets_system import SystemSecrets
from services.accounts.adapters.store_memory import MemoryAccountsStore
from services.accounts.context import Context
from services.accounts.domain import invitation as invitations
from services.accounts.domain.invitation import OPEN_INVITATIONS_MAX, Invitation
from services.accounts.domain.roles import Actor, Role
from services.accounts.handlers import handle
from services.common.clock import FakeClock
from services.common.errors import AppError, Conflict, Forbidden, NotFound, Unauthorized
from services.common.ids import AccountId, InvitationId
from tests.unit.accounts.builders import (
    ACCOUNT,
    ADMIN,
    DEVELOPER,
    NOW_MS,
    OPERATOR,
    OWNER,
    STAFFED,
    account_of,
    actor,
)

PASSWORD = "correct horse battery"
GRACE = "grace@example.com"
LIFETIME_MS = 60_000


def made(email: str = GRACE, role: Role = Role.DEVELOPER, number: int = 1) -> Invitation:
    event = invitations.InvitationMade(
        InvitationId(f"inv_{number}"), ACCOUNT, email, role, f"hash-{number}",
        NOW_MS + LIFETIME_MS, OWNER, NOW_MS,
    )  # fmt: skip
    return invitations.evolve(None, event)


def make(
    by: Actor, role: Role = Role.DEVELOPER, standing: tuple[Invitation, ...] = ()
) -> list[invitations.InvitationEvent]:
    command = invitations.MakeInvitation(
        InvitationId("inv_9"), account_of(STAFFED), by, GRACE, role, "hash", LIFETIME_MS,
        standing, NOW_MS,
    )  # fmt: skip
    return invitations.decide(None, command)


def test_admins_invite_up_to_their_own_role_and_others_nobody() -> None:
    assert make(actor(ADMIN), Role.ADMIN)
    assert make(OPERATOR, Role.OWNER)
    for who, role in ((ADMIN, Role.OWNER), (DEVELOPER, Role.VIEWER)):
        with pytest.raises(Forbidden):
            make(actor(who), role)


def test_an_address_has_one_open_invitation_and_an_account_only_so_many() -> None:
    with pytest.raises(Conflict, match="open invitation"):
        make(actor(OWNER), standing=(made(),))
    many = tuple(made(f"p{n}@example.com", number=n) for n in range(OPEN_INVITATIONS_MAX))
    with pytest.raises(Conflict, match="at most"):
        make(actor(OWNER), standing=many)


def test_nobody_renews_or_revokes_an_invitation_above_their_role_or_of_another_account() -> None:
    account = account_of(STAFFED)
    owners = made(role=Role.OWNER)
    elsewhere = dataclasses.replace(made(), account_id=AccountId("acc_2"))
    expected: list[tuple[Invitation, type[AppError]]] = [(owners, Forbidden), (elsewhere, NotFound)]
    for invitation, error in expected:
        for command in (
            invitations.RenewInvitation(account, actor(ADMIN), "hash", LIFETIME_MS, NOW_MS),
            invitations.RevokeInvitation(account, actor(ADMIN), NOW_MS),
        ):
            with pytest.raises(error):
                invitations.decide(invitation, command)


@dataclasses.dataclass(frozen=True, slots=True)
class House:
    """A service in memory with one account."""

    context: Context
    clock: FakeClock
    store: MemoryAccountsStore
    owner: c.StartedSession

    @property
    def by(self) -> Actor:
        return Actor(self.owner.user.user_id)

    async def invite(self, email: str = GRACE, role: Role = Role.DEVELOPER) -> c.SentInvitation:
        command = c.Invite(self.by, self.owner.account.account_id, email, role)
        return await handle(self.context, command)

    async def accept(self, who: c.StartedSession, token: str) -> c.StartedSession:
        command = c.AcceptInvitation(who.user.user_id, token, who.token)
        return await handle(self.context, command)

    async def sign_up_invited(self, token: str) -> c.StartedSession:
        return await handle(self.context, c.SignUpInvited(token, PASSWORD, "Grace"))


@pytest.fixture
async def house() -> House:
    clock = FakeClock()
    store = MemoryAccountsStore(clock)
    context = Context(
        store=store,
        passwords=Argon2Passwords(time_cost=1, memory_kib=64),
        attempts=MemoryAttempts(clock, attempts_max=9, window_s=60.0, subjects_max=9),
        secrets=SystemSecrets(clock),
        clock=clock,
        session_lifetime_ms=LIFETIME_MS,
        invitation_lifetime_ms=LIFETIME_MS,
    )
    owner = await handle(context, c.SignUp("ada@example.com", PASSWORD, "Ada"))
    return House(context, clock, store, owner)


async def test_an_invited_person_signs_up_into_the_account_and_has_none_of_their_own(
    house: House,
) -> None:
    sent = await house.invite()
    offer = await handle(house.context, c.LookAtInvitation(sent.token))
    assert (offer.account_name, offer.host_name, offer.has_user) == ("Ada", "Ada", False)
    session = await house.sign_up_invited(sent.token)
    assert (session.user.email, session.role) == (GRACE, Role.DEVELOPER)
    assert session.account.account_id == house.owner.account.account_id
    assert len(house.store.tables.accounts) == 1
    types = [record.type for record in house.store.tables.events]
    assert types.count("accounts.InvitationAccepted") == 1
    # Neither the token nor the password is in what was written.
    told = repr(house.store.tables.events) + repr(house.store.tables.audit)
    assert sent.token not in told
    assert PASSWORD not in told


async def test_a_person_with_a_user_joins_and_goes_on_there_with_a_new_session(
    house: House,
) -> None:
    grace = await handle(house.context, c.SignUp(GRACE, PASSWORD))
    sent = await house.invite(role=Role.ADMIN)
    assert (await handle(house.context, c.LookAtInvitation(sent.token))).has_user
    with pytest.raises(Conflict, match="log in"):
        await house.sign_up_invited(sent.token)
    there = await house.accept(grace, sent.token)
    assert (there.account.account_id, there.role) == (house.owner.account.account_id, Role.ADMIN)
    assert there.token != grace.token
    back = c.SwitchAccount(grace.user.user_id, grace.account.account_id, there.token)
    home = await handle(house.context, back)
    assert (home.account.account_id, home.role) == (grace.account.account_id, Role.OWNER)
    # Every way ended the session before: neither buys another one.
    for used in (grace.token, there.token):
        with pytest.raises(Unauthorized):
            await handle(house.context, dataclasses.replace(back, session_token=used))


async def test_each_way_in_which_a_link_leads_nowhere_says_which(house: House) -> None:
    used, revoked, renewed, expired = [await house.invite(f"p{n}@example.com") for n in range(4)]
    await house.sign_up_invited(used.token)
    account_id = house.owner.account.account_id
    end = c.RevokeInvitation(house.by, account_id, revoked.invitation.invitation_id)
    await handle(house.context, end)
    again = c.RenewInvitation(house.by, account_id, renewed.invitation.invitation_id)
    newest = await handle(house.context, again)
    assert (await handle(house.context, c.LookAtInvitation(newest.token))).account_name == "Ada"
    await house.clock.advance(LIFETIME_MS / 1_000)
    words = {used: "used already", revoked: "withdrawn", renewed: "not known", expired: "expired"}
    for sent, word in words.items():
        for attempt in (
            handle(house.context, c.LookAtInvitation(sent.token)),
            house.sign_up_invited(sent.token),
        ):
            with pytest.raises((Conflict, NotFound), match=word):
                await attempt
    for settled in (used, revoked):
        end = c.RevokeInvitation(house.by, account_id, settled.invitation.invitation_id)
        with pytest.raises(Conflict):
            await handle(house.context, end)


async def test_a_link_is_for_the_invited_person_alone(house: House) -> None:
    sent = await house.invite()
    eve = await handle(house.context, c.SignUp("eve@example.com", PASSWORD))
    before = len(house.store.tables.events)
    with pytest.raises(Forbidden, match=r"for grace@example.com.*logged in as eve@example.com"):
        await house.accept(eve, sent.token)
    assert len(house.store.tables.events) == before


async def test_an_invitation_falls_with_the_power_of_whoever_made_it(house: House) -> None:
    admin = await house.sign_up_invited((await house.invite("admin@example.com", Role.ADMIN)).token)
    account_id = house.owner.account.account_id
    command = c.Invite(Actor(admin.user.user_id), account_id, GRACE, Role.ADMIN)
    sent = await handle(house.context, command)
    demote = c.ChangeMemberRole(house.by, account_id, admin.user.user_id, Role.DEVELOPER)
    await handle(house.context, demote)
    with pytest.raises(Conflict, match="no longer invite"):
        await house.sign_up_invited(sent.token)
    # A new link from somebody who may is good.
    renew = c.RenewInvitation(house.by, account_id, sent.invitation.invitation_id)
    joined = await house.sign_up_invited((await handle(house.context, renew)).token)
    assert joined.role is Role.ADMIN


async def test_members_are_not_invited_again_and_strangers_switch_nowhere(house: House) -> None:
    with pytest.raises(Conflict, match="member"):
        await house.invite("ada@example.com")
    eve = await handle(house.context, c.SignUp("eve@example.com", PASSWORD))
    for account_id in (house.owner.account.account_id, AccountId("acc_none")):
        switch = c.SwitchAccount(eve.user.user_id, account_id, eve.token)
        with pytest.raises(NotFound):
            await handle(house.context, switch)
