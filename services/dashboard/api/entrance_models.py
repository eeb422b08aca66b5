"""What the panel's API says and takes about the ways in: invitations, other accounts, a log-in
provider.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from services.dashboard.api.models import Role, SessionOut
from services.dashboard.api.parts import Taken

Mailed = Literal["sent", "failed", "not_set_up"]


class InvitationIn(Taken):
    email: str
    role: Role


class InvitationOut(BaseModel):
    invitation_id: str
    email: str
    role: str
    invited_at: str
    expires_at: str
    expired: bool


class InvitationSent(BaseModel):
    """An invitation with its link, which is shown this once."""

    invitation: InvitationOut
    link: str
    mailed: Mailed


class InvitationToken(Taken):
    token: str = Field(max_length=200)


class InvitedSignUp(InvitationToken):
    password: str
    name: str = ""


class OfferOut(BaseModel):
    """What the holder of an invitation's link sees of it."""

    account_name: str
    email: str
    role: str
    invited_by: str
    expires_at: str
    # The address has a log-in already.
    has_user: bool


class MembershipOut(BaseModel):
    account_id: str
    name: str
    role: str
    is_this: bool


class LogInOptions(BaseModel):
    # What the log-in provider is called; null where there is none.
    oidc_name: str | None


class PasswordState(BaseModel):
    is_set: bool
    # What the log-in provider is called; null where there is none.
    oidc_name: str | None


class FirstPassword(Taken):
    new_password: str


class PendingIdentity(BaseModel):
    email: str


class ConnectIn(Taken):
    password: str


class Connected(BaseModel):
    session: SessionOut
    # Where the person was going.
    to: str
