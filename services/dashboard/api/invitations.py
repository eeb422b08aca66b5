"""Invitations into the account, the invited person's way in, and the way to another account."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.errors import AppError
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.accounts.v1 import invitations_pb2 as pb
from services.dashboard.api import entrance_models as models
from services.dashboard.api.accounts import started, user_agent
from services.dashboard.api.models import SessionOut
from services.dashboard.api.parts import role_name, role_pb
from services.dashboard.api.session import BackendsDep, PathId, SessionDep, SettingsDep
from services.dashboard.api.staff import refuse_staff_address
from services.dashboard.api.translate import moment
from services.dashboard.ports import Letter, Mailer

router = APIRouter(tags=["invitations"])


def invitation_out(found: pb.Invitation, now_ms: int) -> models.InvitationOut:
    return models.InvitationOut(
        invitation_id=found.invitation_id,
        email=found.email,
        role=role_name(found.role),
        invited_at=moment(found.invited_at_ms) or "",
        expires_at=moment(found.expires_at_ms) or "",
        expired=found.expires_at_ms <= now_ms,
    )


def letter_of(sent: pb.InvitationLink, link: str, host: str) -> Letter:
    """What the invited person reads."""
    role = role_name(sent.invitation.role)
    text = (
        f"{host} invites you to the account {sent.account_name} on Mesh, as {role}.\n\n"
        f"Open this link to join; it works once, until {moment(sent.invitation.expires_at_ms)}:\n\n"
        f"{link}\n\n"
        "If you did not expect this, do nothing: without the link nobody joins in your name.\n"
    )
    subject = f"{host} invites you to {sent.account_name} on Mesh"
    return Letter(sent.invitation.email, subject, text)


async def sent_out(
    sent: pb.InvitationLink, request: Request, *, known: SettingsDep, session: SessionDep
) -> models.InvitationSent:
    """Sends the link where there is a mail server, and shows it in any case."""
    # After the #, which no server and no log ever sees.
    link = f"{known.public_url.rstrip('/')}/join#{sent.token}"
    mailer: Mailer | None = request.app.state.mailer
    mailed: models.Mailed = "not_set_up"
    if mailer is not None:
        host = session.principal.name or session.principal.email
        try:
            await mailer.send(letter_of(sent, link, host))
            mailed = "sent"
        except AppError:
            mailed = "failed"
    now_ms = request.app.state.clock.now_ms()
    invitation = invitation_out(sent.invitation, now_ms)
    return models.InvitationSent(invitation=invitation, link=link, mailed=mailed)


@router.get("/invitations")
async def list_invitations(
    request: Request, session: SessionDep, backends: BackendsDep
) -> list[models.InvitationOut]:
    """The account's open invitations, newest first."""
    answer = await backends.accounts_channel.call(
        backends.invitations.ListInvitations,
        pb.ListInvitationsRequest(),
        principal=session.caller,
    )
    now_ms = request.app.state.clock.now_ms()
    return [invitation_out(found, now_ms) for found in answer.invitations]


@router.post("/invitations", status_code=201)
async def invite(
    body: models.InvitationIn,
    request: Request,
    *,
    session: SessionDep,
    backends: BackendsDep,
    known: SettingsDep,
) -> models.InvitationSent:
    """Invites an address; the link is in this answer and in the letter, and nowhere else."""
    refuse_staff_address(body.email, known)
    sent = await backends.accounts_channel.call(
        backends.invitations.Invite,
        pb.InviteRequest(email=body.email, role=role_pb(body.role)),
        principal=session.caller,
    )
    return await sent_out(sent, request, known=known, session=session)


@router.post("/invitations/{invitation_id}/renew")
async def renew_invitation(
    invitation_id: PathId,
    request: Request,
    *,
    session: SessionDep,
    backends: BackendsDep,
    known: SettingsDep,
) -> models.InvitationSent:
    """A new link with a new expiry; the old one ends."""
    sent = await backends.accounts_channel.call(
        backends.invitations.RenewInvitation,
        pb.RenewInvitationRequest(invitation_id=invitation_id),
        principal=session.caller,
    )
    return await sent_out(sent, request, known=known, session=session)


@router.delete("/invitations/{invitation_id}", status_code=204)
async def revoke_invitation(
    invitation_id: PathId, session: SessionDep, backends: BackendsDep
) -> None:
    """Ends an invitation; its link leads nowhere from now on."""
    await backends.accounts_channel.call(
        backends.invitations.RevokeInvitation,
        pb.RevokeInvitationRequest(invitation_id=invitation_id),
        principal=session.caller,
    )


@router.post("/invitation")
async def look_at_invitation(
    body: models.InvitationToken, backends: BackendsDep
) -> models.OfferOut:
    """What the holder of a link sees before they are anybody. A POST, so that the token is in no
    address.
    """
    offer = await backends.accounts_channel.call(
        backends.invitations.GetInvitation, pb.GetInvitationRequest(token=body.token)
    )
    return models.OfferOut(
        account_name=offer.account_name,
        email=offer.email,
        role=role_name(offer.role),
        invited_by=offer.invited_by_name,
        expires_at=moment(offer.expires_at_ms) or "",
        has_user=offer.has_user,
    )


@router.post("/invitation/sign-up", status_code=201)
async def sign_up_invited(
    body: models.InvitedSignUp,
    request: Request,
    *,
    response: Response,
    backends: BackendsDep,
    known: SettingsDep,
) -> SessionOut:
    """Makes the user of the invited address and logs them in to the account."""
    if known.staff:
        # Invited before the address was one of the staff's.
        offer = await backends.accounts_channel.call(
            backends.invitations.GetInvitation, pb.GetInvitationRequest(token=body.token)
        )
        refuse_staff_address(offer.email, known)
    answer = await backends.accounts_channel.call(
        backends.invitations.SignUpInvited,
        pb.SignUpInvitedRequest(
            token=body.token, password=body.password, name=body.name, user_agent=user_agent(request)
        ),
    )
    return started(answer, response, known, now_ms=request.app.state.clock.now_ms())


@router.post("/invitation/accept")
async def accept_invitation(
    body: models.InvitationToken,
    request: Request,
    *,
    response: Response,
    session: SessionDep,
    backends: BackendsDep,
    known: SettingsDep,
) -> SessionOut:
    """Joins, and goes on in that account with a new session."""
    answer = await backends.accounts_channel.call(
        backends.invitations.AcceptInvitation,
        pb.AcceptInvitationRequest(
            token=body.token, session_token=session.token, user_agent=user_agent(request)
        ),
        principal=session.caller,
    )
    return started(answer, response, known, now_ms=request.app.state.clock.now_ms())


@router.get("/accounts")
async def list_accounts(session: SessionDep, backends: BackendsDep) -> list[models.MembershipOut]:
    """Where the person is a member."""
    answer = await backends.accounts_channel.call(
        backends.accounts.ListMemberships,
        accounts_pb2.ListMembershipsRequest(),
        principal=session.caller,
    )
    return [
        models.MembershipOut(
            account_id=one.account_id,
            name=one.account_name,
            role=role_name(one.role),
            is_this=one.account_id == session.principal.account_id,
        )
        for one in answer.memberships
    ]


@router.post("/accounts/{account_id}/switch")
async def switch_account(
    account_id: PathId,
    request: Request,
    *,
    response: Response,
    session: SessionDep,
    backends: BackendsDep,
    known: SettingsDep,
) -> SessionOut:
    """Goes on in another account of the person, with a new session."""
    answer = await backends.accounts_channel.call(
        backends.accounts.SwitchAccount,
        accounts_pb2.SwitchAccountRequest(
            account_id=account_id, session_token=session.token, user_agent=user_agent(request)
        ),
        principal=session.caller,
    )
    return started(answer, response, known, now_ms=request.app.state.clock.now_ms())
