"""What every store promises about invitations and identities, in memory and in PostgreSQL."""

from __future__ import annotations

import pytest

from services.accounts.domain import invitation as invitations
from services.accounts.domain import user as users
from services.accounts.domain.roles import Role
from services.common.errors import ConcurrencyConflict, Conflict
from services.common.ids import AccountId, InvitationId
from tests.contract.accounts.conftest import StoreUnderTest
from tests.unit.accounts.builders import ACCOUNT, NOW_MS, OPENED, OWNER, STRANGER

ISSUER = "https://id.example.com"
INVITATION = InvitationId("inv_1")
MADE = invitations.InvitationMade(
    INVITATION, ACCOUNT, "grace@example.com", Role.ADMIN, "hash-1", NOW_MS + 5, OWNER, NOW_MS
)
RENEWED = invitations.InvitationRenewed(INVITATION, ACCOUNT, "hash-2", NOW_MS + 9, OWNER, NOW_MS)
ACCEPTED = invitations.InvitationAccepted(INVITATION, ACCOUNT, STRANGER, NOW_MS)
SIGNED_UP = users.UserSignedUp(OWNER, "ada@example.com", "Ada", NOW_MS)
LINKED = users.IdentityLinked(OWNER, ISSUER, "subject-1", NOW_MS)


async def test_an_invitation_is_found_by_its_newest_link_also_after_its_end(
    kept: StoreUnderTest,
) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_account(None, OPENED)
        made = await tx.append_invitation(None, [MADE])
    async with kept.store.transaction() as tx:
        assert await tx.invitation(INVITATION) == made
        assert await tx.invitation_of_token("hash-1") == made
        assert await tx.standing_invitations(ACCOUNT) == [made]
        assert await tx.standing_invitations(AccountId("acc_2")) == []
        renewed = await tx.append_invitation(made, [RENEWED])
    async with kept.store.transaction() as tx:
        assert await tx.invitation_of_token("hash-1") is None
        assert await tx.invitation_of_token("hash-2") == renewed
        accepted = await tx.append_invitation(renewed, [ACCEPTED])
    async with kept.store.transaction() as tx:
        assert await tx.standing_invitations(ACCOUNT) == []
        assert await tx.invitation_of_token("hash-2") == accepted == await tx.invitation(INVITATION)
        assert accepted.ended == "accepted"


async def test_an_invitation_that_changed_meanwhile_is_not_changed_again(
    kept: StoreUnderTest,
) -> None:
    async with kept.store.transaction() as tx:
        await tx.append_account(None, OPENED)
        made = await tx.append_invitation(None, [MADE])
        await tx.append_invitation(made, [RENEWED])

    async def again() -> None:
        async with kept.store.transaction() as tx:
            await tx.append_invitation(made, [ACCEPTED])

    with pytest.raises(ConcurrencyConflict):
        await again()


async def test_an_identity_has_one_user_and_nobody_is_nobodys_identity(
    kept: StoreUnderTest,
) -> None:
    async with kept.store.transaction() as tx:
        user = await tx.append_user(None, [SIGNED_UP], ACCOUNT)
        # Two people without an identity are not in each other's way.
        other = users.UserSignedUp(STRANGER, "eve@example.com", "Eve", NOW_MS)
        stranger = await tx.append_user(None, [other], ACCOUNT)
        await tx.append_user(user, [LINKED], ACCOUNT)
    async with kept.store.transaction() as tx:
        assert await tx.user_id_of_identity(ISSUER, "subject-1") == OWNER
        assert await tx.user_id_of_identity(ISSUER, "subject-2") is None
        assert await tx.user_id_of_identity("https://other.example.com", "subject-1") is None

    async def taken() -> None:
        async with kept.store.transaction() as tx:
            same = users.IdentityLinked(STRANGER, ISSUER, "subject-1", NOW_MS)
            await tx.append_user(stranger, [same], ACCOUNT)

    with pytest.raises(Conflict):
        await taken()
