"""`AdminKeysService` over gRPC: messages to commands and reads, results to messages."""

# ruff: noqa: ARG002 - the signatures are those of the generated base class

from __future__ import annotations

from typing import Any

import grpc

from services.accounts import commands as c
from services.accounts.admin_key_views import AdminKeyViews
from services.accounts.context import Context
from services.accounts.domain.admin_key import AdminKey
from services.accounts.entrypoints import translate as t
from services.accounts.handlers import handle
from services.common.ids import AdminKeyId
from services.common.pb.mesh.accounts.v1 import admin_keys_pb2 as pb
from services.common.pb.mesh.accounts.v1.admin_keys_pb2_grpc import AdminKeysServiceServicer

Call = grpc.aio.ServicerContext[Any, Any]  # Any: no method reads it


def admin_key_to_message(key: AdminKey, last_used_at_ms: int = 0) -> pb.AdminKey:
    return pb.AdminKey(
        admin_key_id=key.admin_key_id,
        label=key.label,
        masked_key=key.masked_key,
        permissions=key.permissions,
        scope=key.key_scope,
        expires_at_ms=key.expires_at_ms,
        last_used_at_ms=last_used_at_ms,
        created_by=key.created_by,
        created_at_ms=key.created_at_ms,
        revoked_at_ms=key.revoked_at_ms,
        revoke_reason=key.revoke_reason,
    )


class AdminKeysServicer(AdminKeysServiceServicer):
    """Holds no state; who calls is the floor's context variable."""

    def __init__(self, context: Context, views: AdminKeyViews) -> None:
        self._context = context
        self._views = views

    async def CreateAdminKey(
        self, request: pb.CreateAdminKeyRequest, context: Call
    ) -> pb.AdminKeySecret:
        account_id, actor = t.caller()
        command = c.CreateAdminKey(
            actor=actor,
            account_id=account_id,
            label=request.label,
            permissions=tuple(request.permissions),
            key_scope=request.scope,
            expires_at_ms=request.expires_at_ms,
        )
        return await self._issued(command)

    async def ListAdminKeys(
        self, request: pb.ListAdminKeysRequest, context: Call
    ) -> pb.ListAdminKeysResponse:
        account_id, _ = t.caller()
        found = await self._views.all(account_id)
        return pb.ListAdminKeysResponse(admin_keys=[admin_key_to_message(*one) for one in found])

    async def GetAdminKey(self, request: pb.GetAdminKeyRequest, context: Call) -> pb.AdminKey:
        account_id, _ = t.caller()
        return admin_key_to_message(
            *await self._views.one(account_id, AdminKeyId(request.admin_key_id))
        )

    async def RotateAdminKey(
        self, request: pb.RotateAdminKeyRequest, context: Call
    ) -> pb.AdminKeySecret:
        account_id, actor = t.caller()
        command = c.RotateAdminKey(
            actor=actor,
            account_id=account_id,
            admin_key_id=AdminKeyId(request.admin_key_id),
            grace_s=request.grace_s,
            expires_at_ms=request.expires_at_ms,
        )
        return await self._issued(command)

    async def _issued(self, command: c.Command[c.IssuedAdminKey]) -> pb.AdminKeySecret:
        issued = await handle(self._context, command)
        return pb.AdminKeySecret(
            admin_key=admin_key_to_message(issued.key), plain_key=issued.plain_key
        )

    async def RevokeAdminKey(self, request: pb.RevokeAdminKeyRequest, context: Call) -> pb.AdminKey:
        account_id, actor = t.caller()
        key_id = AdminKeyId(request.admin_key_id)
        revoked = await handle(
            self._context, c.RevokeAdminKey(actor, account_id, key_id, request.reason)
        )
        return admin_key_to_message(revoked)

    async def ResolveAdminKey(
        self, request: pb.ResolveAdminKeyRequest, context: Call
    ) -> pb.ResolveAdminKeyResponse:
        found = await self._views.holder(request.key_hash, self._context.clock.now_ms())
        return pb.ResolveAdminKeyResponse(
            admin_key_id=found.admin_key_id,
            account_id=found.account_id,
            user_id=found.user_id,
            role=t.role_to_message(found.role),
            permissions=found.permissions,
            scope=found.key_scope,
            team_ids=found.team_ids,
        )
