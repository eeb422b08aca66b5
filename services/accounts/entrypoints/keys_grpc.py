"""`KeysService` over gRPC: messages to commands and reads, results to messages."""

# ruff: noqa: ARG002 - the signatures are those of the generated base class

from __future__ import annotations

from typing import Any

import grpc

from services.accounts import commands as c
from services.accounts.context import Context
from services.accounts.entrypoints import translate as t
from services.accounts.handlers import handle
from services.accounts.views import AccountsViews
from services.common.ids import KeyId
from services.common.pb.mesh.accounts.v1 import keys_pb2 as pb
from services.common.pb.mesh.accounts.v1.keys_pb2_grpc import KeysServiceServicer

Call = grpc.aio.ServicerContext[Any, Any]  # Any: no method reads it


class KeysServicer(KeysServiceServicer):
    """Holds no state; who calls is the floor's context variable."""

    def __init__(self, context: Context, views: AccountsViews) -> None:
        self._context = context
        self._views = views

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Call) -> pb.CreateKeyResponse:
        account_id, actor = t.caller()
        settings = t.settings_from_request(request.settings)
        issued = await handle(self._context, c.CreateKey(actor, account_id, settings))
        return pb.CreateKeyResponse(key=t.key_to_message(issued.key), plain_key=issued.plain_key)

    async def GetKey(self, request: pb.GetKeyRequest, context: Call) -> pb.Key:
        account_id, _ = t.caller()
        return t.key_to_message(await self._views.key(account_id, KeyId(request.key_id)))

    async def ListKeys(self, request: pb.ListKeysRequest, context: Call) -> pb.ListKeysResponse:
        account_id, _ = t.caller()
        found, token = await self._views.keys(account_id, t.page_from_message(request.page))
        return pb.ListKeysResponse(
            keys=[t.key_to_message(one) for one in found], page=t.next_page(token)
        )

    async def UpdateKey(self, request: pb.UpdateKeyRequest, context: Call) -> pb.Key:
        account_id, actor = t.caller()
        command = c.UpdateKey(
            actor=actor,
            account_id=account_id,
            key_id=KeyId(request.key_id),
            change=t.settings_from_request(request.settings),
            mask=tuple(request.update_mask),
        )
        return t.key_to_message(await handle(self._context, command))

    async def SuspendKey(self, request: pb.SuspendKeyRequest, context: Call) -> pb.Key:
        account_id, actor = t.caller()
        command = c.SuspendKey(actor, account_id, KeyId(request.key_id))
        return t.key_to_message(await handle(self._context, command))

    async def ResumeKey(self, request: pb.ResumeKeyRequest, context: Call) -> pb.Key:
        account_id, actor = t.caller()
        command = c.ResumeKey(actor, account_id, KeyId(request.key_id))
        return t.key_to_message(await handle(self._context, command))

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Call) -> pb.RotateKeyResponse:
        account_id, actor = t.caller()
        command = c.RotateKey(actor, account_id, KeyId(request.key_id), request.grace_s)
        issued = await handle(self._context, command)
        return pb.RotateKeyResponse(key=t.key_to_message(issued.key), plain_key=issued.plain_key)
