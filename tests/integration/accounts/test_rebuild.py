"""A rebuild folds the events into the same read tables, and says so where they are not the same."""

from __future__ import annotations

from services.accounts.rebuild import rebuild
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2,
    admin_keys_pb2,
    invitations_pb2,
    keys_pb2,
)
from services.common.pb.mesh.common.v1 import common_pb2
from tests.integration.accounts.conftest import PASSWORD, Service, operator


async def busy_account(service: Service) -> None:
    """An account in which something of each kind happened."""
    owner = await service.sign_up()
    member = await service.add(owner, "admin")
    gone = await service.add(owner, "viewer")
    removal = accounts_pb2.RemoveMemberRequest(user_id=gone.principal.user_id)
    await service.call(service.accounts.RemoveMember, removal, member.principal)
    key_id = (await service.create_key(member)).key.key_id
    rotation = keys_pb2.RotateKeyRequest(key_id=key_id, grace_s=60)
    await service.call(service.keys.RotateKey, rotation, owner.principal)
    suspension = keys_pb2.SuspendKeyRequest(key_id=key_id)
    await service.call(service.keys.SuspendKey, suspension, owner.principal)
    links = [
        await service.call(
            service.invitations.Invite,
            invitations_pb2.InviteRequest(
                email=f"guest{n}@example.com", role=common_pb2.ROLE_ADMIN
            ),
            owner.principal,
        )
        for n in range(3)
    ]
    renewal = invitations_pb2.RenewInvitationRequest(
        invitation_id=links[0].invitation.invitation_id
    )
    await service.call(service.invitations.RenewInvitation, renewal, member.principal)
    end = invitations_pb2.RevokeInvitationRequest(invitation_id=links[1].invitation.invitation_id)
    await service.call(service.invitations.RevokeInvitation, end, owner.principal)
    admin_key = (await service.create_admin_key(owner)).admin_key.admin_key_id
    admin_rotation = admin_keys_pb2.RotateAdminKeyRequest(admin_key_id=admin_key, grace_s=3_600)
    await service.call(service.admin_keys.RotateAdminKey, admin_rotation, owner.principal)
    revoked = (await service.create_admin_key(member)).admin_key.admin_key_id
    revocation = admin_keys_pb2.RevokeAdminKeyRequest(admin_key_id=revoked, reason="leaked")
    await service.call(service.admin_keys.RevokeAdminKey, revocation, owner.principal)
    entry = invitations_pb2.SignUpInvitedRequest(token=links[2].token, password=PASSWORD)
    await service.call(service.invitations.SignUpInvited, entry)
    request = accounts_pb2.SuspendAccountRequest(reason="unpaid")
    acting = operator(owner.principal.account_id)
    await service.call(service.accounts.SuspendAccount, request, acting)


async def test_a_rebuild_gives_the_same_tables_and_the_service_goes_on(service: Service) -> None:
    await busy_account(service)
    ada = await service.sign_up()
    done = await rebuild(service.pool)
    assert done.equal
    assert done.events == await service.pool.fetchval("SELECT count(*) FROM events")
    # Secrets outlive it: the session and the password are still good.
    request = accounts_pb2.ResolveSessionRequest(session_token=ada.token)
    await service.call(service.accounts.ResolveSession, request)
    await service.log_in(ada.email)
    await service.create_key(ada)


async def test_a_rebuild_reveals_and_mends_what_is_no_fold_of_events(service: Service) -> None:
    ada = await service.sign_up()
    key_id = (await service.create_key(ada)).key.key_id
    healthy = (await rebuild(service.pool)).hash_after
    await service.pool.execute("UPDATE api_keys SET suspended = true WHERE key_id = $1", key_id)
    damaged = await rebuild(service.pool)
    assert not damaged.equal
    assert damaged.hash_after == healthy
    key = await service.call(
        service.keys.GetKey, keys_pb2.GetKeyRequest(key_id=key_id), ada.principal
    )
    assert not key.suspended
