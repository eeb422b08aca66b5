"""`InvitationsService` over gRPC: messages to commands and reads, results to messages."""

# ruff: noqa: ARG002 - the signatures are those of the generated base class

from __future__ import annotations

from typing import Any

import grpc

from services.accounts import commands as c
from services.accounts.adapters.email_address import normalised
from services.accounts.context import Context
from services.accounts.domain.invitation import Invitation
from services.accounts.entrypoints import translate as t
from services.accounts.handlers import handle
from services.accounts.views import AccountsViews
from services.common.ids import InvitationId
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.accounts.v1 import invitations_pb2 as pb
from services.common.pb.mesh.accounts.v1.invitations_pb2_grpc import InvitationsServiceServicer

Call = grpc.aio.ServicerContext[Any, Any]  # Any: no method reads it


def invitation_to_message(invitation: Invitation) -> pb.Invitation:
    return pb.Invitation(
        invitation_id=invitation.invitation_id,
        email=invitation.email,
        role=t.role_to_message(invitation.role),
        invited_by=invitation.invited_by,
        invited_at_ms=invitation.invited_at_ms,
        expires_at_ms=invitation.expires_at_ms,
    )


def link_to_message(sent: c.SentInvitation) -> pb.InvitationLink:
    return pb.InvitationLink(
        invitation=invitation_to_message(sent.invitation),
        token=sent.token,
        account_name=sent.account_name,
    )


class InvitationsServicer(InvitationsServiceServicer):
    """Holds no state; who calls is the floor's context variable."""

    def __init__(self, context: Context, views: AccountsViews) -> None:
        self._context = context
        self._views = views

    async def Invite(self, request: pb.InviteRequest, context: Call) -> pb.InvitationLink:
        account_id, actor = t.caller()
        email = normalised("email", request.email)
        command = c.Invite(actor, account_id, email, t.role_from_message(request.role))
        return link_to_message(await handle(self._context, command))

    async def ListInvitations(
        self, request: pb.ListInvitationsRequest, context: Call
    ) -> pb.ListInvitationsResponse:
        account_id, _ = t.caller()
        found = await self._views.invitations(account_id)
        return pb.ListInvitationsResponse(invitations=[invitation_to_message(one) for one in found])

    async def RenewInvitation(
        self, request: pb.RenewInvitationRequest, context: Call
    ) -> pb.InvitationLink:
        account_id, actor = t.caller()
        command = c.RenewInvitation(actor, account_id, InvitationId(request.invitation_id))
        return link_to_message(await handle(self._context, command))

    async def RevokeInvitation(
        self, request: pb.RevokeInvitationRequest, context: Call
    ) -> pb.RevokeInvitationResponse:
        account_id, actor = t.caller()
        command = c.RevokeInvitation(actor, account_id, InvitationId(request.invitation_id))
        await handle(self._context, command)
        return pb.RevokeInvitationResponse()

    async def GetInvitation(
        self, request: pb.GetInvitationRequest, context: Call
    ) -> pb.InvitationOffer:
        offer = await handle(self._context, c.LookAtInvitation(request.token))
        return pb.InvitationOffer(
            account_name=offer.account_name,
            email=offer.invitation.email,
            role=t.role_to_message(offer.invitation.role),
            invited_by_name=offer.host_name,
            expires_at_ms=offer.invitation.expires_at_ms,
            has_user=offer.has_user,
        )

    async def SignUpInvited(
        self, request: pb.SignUpInvitedRequest, context: Call
    ) -> accounts_pb2.SessionResponse:
        command = c.SignUpInvited(request.token, request.password, request.name, request.user_agent)
        return t.started_to_message(await handle(self._context, command))

    async def AcceptInvitation(
        self, request: pb.AcceptInvitationRequest, context: Call
    ) -> accounts_pb2.SessionResponse:
        _, user_id = t.person()
        command = c.AcceptInvitation(
            user_id, request.token, request.session_token, request.user_agent
        )
        return t.started_to_message(await handle(self._context, command))
