"""`AccountsService` over gRPC: messages to commands and reads, results to messages."""

# ruff: noqa: ARG002 - the signatures are those of the generated base class

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc

from services.accounts import commands as c
from services.accounts.adapters.email_address import normalised
from services.accounts.context import Context
from services.accounts.domain.secret import sha256_hex
from services.accounts.entrypoints import translate as t
from services.accounts.handlers import handle
from services.accounts.views import AccountsViews
from services.common.grpc import principal
from services.common.ids import AccountId, SessionId, UserId
from services.common.pb.mesh.accounts.v1 import accounts_pb2 as pb
from services.common.pb.mesh.accounts.v1.accounts_pb2_grpc import AccountsServiceServicer

Call = grpc.aio.ServicerContext[Any, Any]  # Any: no method reads it


class AccountsServicer(AccountsServiceServicer):
    """Holds no state; who calls is the floor's context variable."""

    def __init__(self, context: Context, views: AccountsViews) -> None:
        self._context = context
        self._views = views

    async def SignUp(self, request: pb.SignUpRequest, context: Call) -> pb.SessionResponse:
        command = c.SignUp(
            email=normalised("email", request.email),
            password=request.password,
            name=request.name,
            account_name=request.account_name,
            user_agent=request.user_agent,
        )
        return t.started_to_message(await handle(self._context, command))

    async def LogIn(self, request: pb.LogInRequest, context: Call) -> pb.SessionResponse:
        command = c.LogIn(normalised("email", request.email), request.password, request.user_agent)
        return t.started_to_message(await handle(self._context, command))

    async def LogInWithIdentity(
        self, request: pb.LogInWithIdentityRequest, context: Call
    ) -> pb.LogInWithIdentityResponse:
        identity = t.identity_from_message(request.identity)
        command = c.LogInWithIdentity(identity, request.name, request.user_agent)
        started = await handle(self._context, command)
        if started is None:
            return pb.LogInWithIdentityResponse()
        return pb.LogInWithIdentityResponse(session=t.started_to_message(started))

    async def ConnectIdentity(
        self, request: pb.ConnectIdentityRequest, context: Call
    ) -> pb.SessionResponse:
        identity = t.identity_from_message(request.identity)
        command = c.ConnectIdentity(identity, request.password, request.user_agent)
        return t.started_to_message(await handle(self._context, command))

    async def ResolveSession(
        self, request: pb.ResolveSessionRequest, context: Call
    ) -> pb.ResolveSessionResponse:
        now_ms = self._context.clock.now_ms()
        token_hash = sha256_hex(request.session_token)
        return t.holder_to_message(await self._views.session_holder(token_hash, now_ms))

    async def LogOut(self, request: pb.LogOutRequest, context: Call) -> pb.LogOutResponse:
        await handle(self._context, c.LogOut(request.session_token))
        return pb.LogOutResponse()

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Call
    ) -> pb.ListSessionsResponse:
        account_id, user_id = t.person()
        now_ms = self._context.clock.now_ms()
        found = await self._views.sessions(account_id, user_id, now_ms)
        return pb.ListSessionsResponse(sessions=[t.session_to_message(one) for one in found])

    async def RevokeSession(
        self, request: pb.RevokeSessionRequest, context: Call
    ) -> pb.RevokeSessionResponse:
        account_id, user_id = t.person()
        command = c.RevokeSession(user_id, account_id, SessionId(request.session_id))
        await handle(self._context, command)
        return pb.RevokeSessionResponse()

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, context: Call
    ) -> pb.ChangePasswordResponse:
        account_id, user_id = t.person()
        command = c.ChangePassword(
            user_id=user_id,
            account_id=account_id,
            current_password=request.current_password,
            new_password=request.new_password,
            session_token=request.session_token,
        )
        await handle(self._context, command)
        return pb.ChangePasswordResponse()

    async def SetPassword(
        self, request: pb.SetPasswordRequest, context: Call
    ) -> pb.SetPasswordResponse:
        account_id, user_id = t.person()
        command = c.SetPassword(
            user_id=user_id,
            account_id=account_id,
            identity=t.identity_from_message(request.identity),
            new_password=request.new_password,
            session_token=request.session_token,
        )
        await handle(self._context, command)
        return pb.SetPasswordResponse()

    async def ListMemberships(
        self, request: pb.ListMembershipsRequest, context: Call
    ) -> pb.ListMembershipsResponse:
        _, user_id = t.person()
        found = await self._views.memberships(user_id)
        return pb.ListMembershipsResponse(
            memberships=[
                pb.Membership(
                    account_id=one.account_id,
                    account_name=one.name,
                    role=t.role_to_message(one.role),
                )
                for one in found
            ]
        )

    async def SwitchAccount(
        self, request: pb.SwitchAccountRequest, context: Call
    ) -> pb.SessionResponse:
        _, user_id = t.person()
        account_id = AccountId(request.account_id)
        command = c.SwitchAccount(user_id, account_id, request.session_token, request.user_agent)
        return t.started_to_message(await handle(self._context, command))

    async def GetAccount(self, request: pb.GetAccountRequest, context: Call) -> pb.Account:
        account_id, _ = t.caller()
        return t.account_to_message(await self._views.account(account_id))

    async def ListAccounts(
        self, request: pb.ListAccountsRequest, context: Call
    ) -> pb.ListAccountsResponse:
        page = t.page_from_message(request.page)
        found, token = await self._views.accounts(page, request.search)
        return pb.ListAccountsResponse(
            accounts=[t.account_to_message(one) for one in found], page=t.next_page(token)
        )

    async def SuspendAccount(self, request: pb.SuspendAccountRequest, context: Call) -> pb.Account:
        account_id, actor = t.caller()
        await handle(self._context, c.SuspendAccount(actor, account_id, request.reason))
        return t.account_to_message(await self._views.account(account_id))

    async def ResumeAccount(self, request: pb.ResumeAccountRequest, context: Call) -> pb.Account:
        account_id, actor = t.caller()
        await handle(self._context, c.ResumeAccount(actor, account_id))
        return t.account_to_message(await self._views.account(account_id))

    async def RecordOperation(
        self, request: pb.RecordOperationRequest, context: Call
    ) -> pb.RecordOperationResponse:
        account_id, actor = t.caller()
        # Elsewhere the operator is nobody in particular; here it is the person that counts.
        person = replace(actor, user_id=UserId(principal().user_id))
        command = c.RecordOperation(
            person, account_id, request.action, request.subject, request.note
        )
        await handle(self._context, command)
        return pb.RecordOperationResponse()

    async def ListMembers(
        self, request: pb.ListMembersRequest, context: Call
    ) -> pb.ListMembersResponse:
        account_id, _ = t.caller()
        found = await self._views.members(account_id)
        return pb.ListMembersResponse(members=[t.member_row_to_message(one) for one in found])

    async def AddMember(self, request: pb.AddMemberRequest, context: Call) -> pb.Member:
        account_id, actor = t.caller()
        command = c.AddMember(
            actor=actor,
            account_id=account_id,
            email=normalised("email", request.email),
            name=request.name,
            role=t.role_from_message(request.role),
            initial_password=request.initial_password,
        )
        return t.member_to_message(await handle(self._context, command))

    async def ChangeMemberRole(
        self, request: pb.ChangeMemberRoleRequest, context: Call
    ) -> pb.Member:
        account_id, actor = t.caller()
        role = t.role_from_message(request.role)
        command = c.ChangeMemberRole(actor, account_id, UserId(request.user_id), role)
        return t.member_to_message(await handle(self._context, command))

    async def RemoveMember(
        self, request: pb.RemoveMemberRequest, context: Call
    ) -> pb.RemoveMemberResponse:
        account_id, actor = t.caller()
        await handle(self._context, c.RemoveMember(actor, account_id, UserId(request.user_id)))
        return pb.RemoveMemberResponse()

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: Call
    ) -> pb.ListAuditEventsResponse:
        account_id, _ = t.caller()
        found, token = await self._views.audit(account_id, t.page_from_message(request.page))
        return pb.ListAuditEventsResponse(
            events=[t.audit_to_message(one) for one in found], page=t.next_page(token)
        )
