"""The person's own sessions and password, the account's members, and who did what."""

from __future__ import annotations

from fastapi import APIRouter, Query

from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.dashboard.api import models
from services.dashboard.api.parts import role_pb
from services.dashboard.api.session import BackendsDep, PathId, SessionDep, SettingsDep
from services.dashboard.api.staff import refuse_staff_address
from services.dashboard.api.translate import audit_out, member_out, moment

router = APIRouter(tags=["people"])


@router.get("/sessions")
async def list_sessions(session: SessionDep, backends: BackendsDep) -> list[models.SignedIn]:
    """Where the person is logged in."""
    answer = await backends.accounts_channel.call(
        backends.accounts.ListSessions,
        accounts_pb2.ListSessionsRequest(),
        principal=session.caller,
    )
    return [
        models.SignedIn(
            session_id=found.session_id,
            user_agent=found.user_agent,
            started_at=moment(found.started_at_ms) or "",
            expires_at=moment(found.expires_at_ms) or "",
            is_this=found.session_id == session.principal.session_id,
        )
        for found in answer.sessions
    ]


@router.delete("/sessions/{session_id}", status_code=204)
async def revoke_session(session_id: PathId, session: SessionDep, backends: BackendsDep) -> None:
    """Ends one of the person's sessions."""
    await backends.accounts_channel.call(
        backends.accounts.RevokeSession,
        accounts_pb2.RevokeSessionRequest(session_id=session_id),
        principal=session.caller,
    )


@router.post("/password", status_code=204)
async def change_password(
    body: models.PasswordChange, session: SessionDep, backends: BackendsDep
) -> None:
    """A new password; every other session of the person ends."""
    await backends.accounts_channel.call(
        backends.accounts.ChangePassword,
        accounts_pb2.ChangePasswordRequest(
            current_password=body.current_password,
            new_password=body.new_password,
            session_token=session.token,
        ),
        principal=session.caller,
    )


@router.get("/members")
async def list_members(session: SessionDep, backends: BackendsDep) -> list[models.MemberOut]:
    """Who belongs to the account."""
    answer = await backends.accounts_channel.call(
        backends.accounts.ListMembers, accounts_pb2.ListMembersRequest(), principal=session.caller
    )
    return [member_out(member) for member in answer.members]


@router.post("/members", status_code=201)
async def add_member(
    body: models.MemberIn, session: SessionDep, backends: BackendsDep, *, known: SettingsDep
) -> models.MemberOut:
    """Adds a person by their address; somebody new gets the password that is given here."""
    refuse_staff_address(body.email, known)
    member = await backends.accounts_channel.call(
        backends.accounts.AddMember,
        accounts_pb2.AddMemberRequest(
            email=body.email,
            name=body.name,
            role=role_pb(body.role),
            initial_password=body.initial_password,
        ),
        principal=session.caller,
    )
    return member_out(member)


@router.patch("/members/{user_id}")
async def change_member(
    user_id: PathId, body: models.MemberChange, *, session: SessionDep, backends: BackendsDep
) -> models.MemberOut:
    """Gives a member another role."""
    member = await backends.accounts_channel.call(
        backends.accounts.ChangeMemberRole,
        accounts_pb2.ChangeMemberRoleRequest(user_id=user_id, role=role_pb(body.role)),
        principal=session.caller,
    )
    return member_out(member)


@router.delete("/members/{user_id}", status_code=204)
async def remove_member(user_id: PathId, session: SessionDep, backends: BackendsDep) -> None:
    """Takes a member out; their keys stay, as they are the account's."""
    await backends.accounts_channel.call(
        backends.accounts.RemoveMember,
        accounts_pb2.RemoveMemberRequest(user_id=user_id),
        principal=session.caller,
    )


@router.get("/audit")
async def list_audit(
    session: SessionDep,
    backends: BackendsDep,
    *,
    page_size: int = Query(default=50, ge=1, le=200),
    page_token: str = "",
) -> models.AuditOut:
    """Who did what in the account, newest first."""
    page = common_pb2.PageRequest(page_size=page_size, page_token=page_token)
    answer = await backends.accounts_channel.call(
        backends.accounts.ListAuditEvents,
        accounts_pb2.ListAuditEventsRequest(page=page),
        principal=session.caller,
    )
    return models.AuditOut(
        events=[audit_out(event) for event in answer.events],
        next_page_token=answer.page.next_page_token,
    )
