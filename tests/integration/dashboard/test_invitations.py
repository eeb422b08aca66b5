"""Invitations as the panel makes them: the link, the letter, and the invited person's way in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from aiosmtpd.smtp import Envelope

from services.common.errors import Unavailable
from services.dashboard.api.session import COOKIE
from services.dashboard.config import DashboardSettings
from services.dashboard.mail import MemoryMailer, SmtpMailer
from services.dashboard.ports import Letter
from tests.fixtures.engines import unused_port
from tests.integration.dashboard.conftest import PASSWORD, Browser, Panel, serve_panel


def token_of(link: str) -> str:
    address, _, token = link.partition("#")
    assert address.endswith("/join"), link
    return token


async def invite(by: Browser, email: str, role: str = "developer") -> str:
    """The token of a new invitation's link."""
    answer = await by.call("POST", "/api/invitations", {"email": email, "role": role})
    assert answer.status == 201, answer.body
    return token_of(answer.json["link"])


async def test_somebody_new_opens_the_link_signs_up_and_is_a_member(
    ada: Browser, panel: Panel
) -> None:
    body = {"email": "New.Person@Example.com", "role": "developer"}
    sent = (await ada.call("POST", "/api/invitations", body)).json
    assert sent["mailed"] == "not_set_up"
    assert sent["link"].startswith(panel.settings.public_url)
    token = token_of(sent["link"])
    listed = (await ada.call("GET", "/api/invitations")).json
    assert listed == [sent["invitation"]]
    assert token not in str(listed)
    guest = await panel.browser()
    offer = (await guest.call("POST", "/api/invitation", {"token": token})).json
    assert (offer["email"], offer["role"]) == ("new.person@example.com", "developer")
    assert (offer["invited_by"], offer["has_user"]) == ("Ada", False)
    entry = {"token": token, "password": PASSWORD, "name": "Grace"}
    joined = await guest.call("POST", "/api/invitation/sign-up", entry)
    assert joined.status == 201, joined.body
    assert joined.json["account_id"] == ada.session["account_id"]
    assert "HttpOnly" in joined.cookies[COOKIE]
    assert (await ada.call("GET", "/api/invitations")).json == []
    members = {m["email"]: m["role"] for m in (await ada.call("GET", "/api/members")).json}
    assert members["new.person@example.com"] == "developer"
    kinds = [event["type"] for event in (await ada.call("GET", "/api/audit")).json["events"]]
    assert {"accounts.InvitationMade", "accounts.InvitationAccepted"} <= set(kinds)
    # The link works once, and says so.
    again = await guest.call("POST", "/api/invitation", {"token": token})
    assert (again.status, again.code) == (409, "conflict")
    assert "used already" in again.json["error"]["message"]


async def test_somebody_with_a_log_in_joins_with_a_new_session_and_goes_back_and_forth(
    ada: Browser, panel: Panel
) -> None:
    grace = await panel.browser()
    own = await grace.sign_up(name="Grace")
    token = await invite(ada, own["email"], "admin")
    before = next(c.value for c in grace.client.cookie_jar if c.key == COOKIE)
    joined = await grace.call("POST", "/api/invitation/accept", {"token": token})
    assert joined.status == 200, joined.body
    assert (joined.json["account_id"], joined.json["role"]) == (
        ada.session["account_id"], "admin",
    )  # fmt: skip
    after = next(c.value for c in grace.client.cookie_jar if c.key == COOKIE)
    assert before != after
    stale = await (await panel.browser()).call("GET", "/api/session", cookie=f"{COOKIE}={before}")
    assert stale.status == 401
    grace.csrf = joined.json["csrf_token"]
    accounts = (await grace.call("GET", "/api/accounts")).json
    assert [one["is_this"] for one in accounts] == [False, True]
    back = await grace.call("POST", f"/api/accounts/{own['account_id']}/switch")
    assert (back.status, back.json["role"]) == (200, "owner")
    grace.csrf = back.json["csrf_token"]
    assert (await grace.call("GET", "/api/members")).json[0]["email"] == own["email"]


async def test_the_wrong_person_a_renewed_and_a_revoked_link_are_refused_with_a_sentence(
    ada: Browser, panel: Panel
) -> None:
    eve = await panel.browser()
    await eve.sign_up(name="Eve")
    token = await invite(ada, "somebody-else@example.com")
    wrong = await eve.call("POST", "/api/invitation/accept", {"token": token})
    assert (wrong.status, wrong.code) == (403, "forbidden")
    assert "for somebody-else@example.com" in wrong.json["error"]["message"]
    [open_one] = (await ada.call("GET", "/api/invitations")).json
    address = f"/api/invitations/{open_one['invitation_id']}"
    renewed = token_of((await ada.call("POST", f"{address}/renew")).json["link"])
    old = await eve.call("POST", "/api/invitation", {"token": token})
    assert (old.status, "newer" in old.json["error"]["message"]) == (404, True)
    assert (await eve.call("POST", "/api/invitation", {"token": renewed})).status == 200
    assert (await ada.call("DELETE", address)).status == 204
    gone = await eve.call("POST", "/api/invitation", {"token": renewed})
    assert (gone.status, "withdrawn" in gone.json["error"]["message"]) == (409, True)


@pytest.mark.parametrize("role", ["viewer", "developer"])
async def test_who_is_no_admin_invites_nobody(role: str, ada: Browser, panel: Panel) -> None:
    member = await panel.add_member(ada, role)
    body = {"email": "x@example.com", "role": "viewer"}
    assert (await member.call("POST", "/api/invitations", body)).code == "forbidden"


async def test_the_letter_carries_the_link_and_a_mail_server_that_is_away_costs_nothing(
    ada: Browser, settings_for: Callable[..., DashboardSettings]
) -> None:
    mailer = MemoryMailer()
    public = "https://panel.example.com/"
    async with serve_panel(settings_for(public_url=public), mailer) as panel:
        browser = await panel.browser()
        await browser.log_in(ada.session["email"])
        body = {"email": "letter@example.com", "role": "viewer"}
        sent = (await browser.call("POST", "/api/invitations", body)).json
        assert sent["mailed"] == "sent"
        assert sent["link"].startswith("https://panel.example.com/join#")
        [letter] = mailer.sent
        assert letter.to == "letter@example.com"
        assert sent["link"] in letter.text
        mailer.away = True
        other = {"email": "no-letter@example.com", "role": "viewer"}
        shown = (await browser.call("POST", "/api/invitations", other)).json
        assert (shown["mailed"], len(mailer.sent)) == ("failed", 1)
        assert token_of(shown["link"])


class Inbox(MessageHandler):
    """Keeps what a real SMTP server took."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[list[str], str]] = []

    def prepare_message(self, session: object, envelope: Envelope) -> None:  # type: ignore[override] # nothing to hand on
        content = envelope.content
        assert isinstance(content, bytes)
        self.taken.append((list(envelope.rcpt_tos), content.decode()))

    def handle_message(self, message: object) -> None:
        """All was kept before."""


async def test_a_letter_goes_over_smtp_with_one_line_of_subject() -> None:
    inbox = Inbox()
    server = Controller(inbox, hostname="127.0.0.1", port=unused_port())
    server.start()
    try:
        mailer = SmtpMailer(f"smtp+plain://127.0.0.1:{server.port}", "Mesh <mesh@example.com>")
        await mailer.send(
            Letter("grace@example.com", "Ada\r\nBcc: eve@example.com", "Come in: x#y")
        )
    finally:
        server.stop()
    [(to, raw)] = inbox.taken
    assert to == ["grace@example.com"]
    assert "Subject: Ada Bcc: eve@example.com" in raw
    assert "x#y" in raw
    with pytest.raises(Unavailable):
        await mailer.send(Letter("grace@example.com", "late", "nobody takes it"))
