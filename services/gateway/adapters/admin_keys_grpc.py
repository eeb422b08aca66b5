"""Admin keys by gRPC at the accounts service."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.accounts.v1 import admin_keys_pb2 as pb
from services.common.pb.mesh.accounts.v1.admin_keys_pb2_grpc import AdminKeysServiceStub
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.security.tokens import Principal
from services.gateway.admin_keys import AdminGrant, ManagedAdminKey


class GrpcAdminKeys:
    """`AdminKeys` and `AdminKeyHolders` at accounts."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = AdminKeysServiceStub(channel.channel())

    async def holder(self, secret: str) -> AdminGrant:
        # Accounts keeps hashes; the secret itself goes no further than this.
        request = pb.ResolveAdminKeyRequest(key_hash=hashlib.sha256(secret.encode()).hexdigest())
        found = await self._channel.call(self._stub.ResolveAdminKey, request)
        role = common_pb2.Role.Name(found.role).removeprefix("ROLE_").lower()
        return AdminGrant(
            principal=Principal(
                "user", found.account_id, found.user_id, key_id=found.admin_key_id, role=role
            ),
            permissions=frozenset(found.permissions),
            scope=found.scope,
            team_ids=frozenset(found.team_ids),
        )

    async def create(
        self,
        principal: Principal,
        label: str,
        *,
        permissions: Collection[str],
        scope: str,
        expires_at_ms: int,
    ) -> tuple[ManagedAdminKey, str]:
        request = pb.CreateAdminKeyRequest(
            label=label, permissions=permissions, scope=scope, expires_at_ms=expires_at_ms
        )
        answer = await self._channel.call(self._stub.CreateAdminKey, request, principal=principal)
        return _key_from_pb(answer.admin_key), answer.plain_key

    async def all(self, principal: Principal) -> list[ManagedAdminKey]:
        request = pb.ListAdminKeysRequest()
        answer = await self._channel.call(self._stub.ListAdminKeys, request, principal=principal)
        return [_key_from_pb(key) for key in answer.admin_keys]

    async def get(self, principal: Principal, key_id: str) -> ManagedAdminKey:
        request = pb.GetAdminKeyRequest(admin_key_id=key_id)
        return _key_from_pb(
            await self._channel.call(self._stub.GetAdminKey, request, principal=principal)
        )

    async def rotate(
        self, principal: Principal, key_id: str, *, grace_s: int, expires_at_ms: int
    ) -> tuple[ManagedAdminKey, str]:
        request = pb.RotateAdminKeyRequest(
            admin_key_id=key_id, grace_s=grace_s, expires_at_ms=expires_at_ms
        )
        answer = await self._channel.call(self._stub.RotateAdminKey, request, principal=principal)
        return _key_from_pb(answer.admin_key), answer.plain_key

    async def revoke(self, principal: Principal, key_id: str, reason: str) -> None:
        request = pb.RevokeAdminKeyRequest(admin_key_id=key_id, reason=reason)
        await self._channel.call(self._stub.RevokeAdminKey, request, principal=principal)


def _key_from_pb(key: pb.AdminKey) -> ManagedAdminKey:
    return ManagedAdminKey(
        admin_key_id=key.admin_key_id,
        label=key.label,
        masked_key=key.masked_key,
        permissions=tuple(key.permissions),
        scope=key.scope,
        expires_at_ms=key.expires_at_ms,
        last_used_at_ms=key.last_used_at_ms,
        created_by=key.created_by,
        created_at_ms=key.created_at_ms,
        revoked_at_ms=key.revoked_at_ms,
        revoke_reason=key.revoke_reason,
    )
