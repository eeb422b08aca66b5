"""Logging in through a real log-in provider, in headless Chromium, over the built page."""

from __future__ import annotations

from collections.abc import Callable

from services.common.config import HostPort
from services.dashboard.config import DashboardSettings
from tests.e2e.chromium import seen_by
from tests.fixtures.engines import unused_port
from tests.fixtures.oidc import CLIENT_ID, CLIENT_SECRET, real_provider
from tests.integration.dashboard.conftest import serve_panel

WEB_DIR = DashboardSettings.model_fields["web_dir"].default


async def test_a_person_comes_in_by_the_provider_s_page_and_finds_the_same_account_again(
    settings_for: Callable[..., DashboardSettings],
) -> None:
    assert (WEB_DIR / "index.html").is_file(), "the page is built by make setup"
    listen = HostPort(f"127.0.0.1:{unused_port()}")
    person: dict[str, object] = {
        "email": "hedy@provider.example", "email_verified": True, "name": "Hedy",
    }  # fmt: skip
    async with real_provider(hedy=person) as issuer:
        settings = settings_for(
            listen=listen, public_url=f"http://{listen}", web_dir=WEB_DIR, oidc_issuer=issuer,
            oidc_client_id=CLIENT_ID, oidc_client_secret=CLIENT_SECRET, oidc_name="Example ID",
        )  # fmt: skip
        async with serve_panel(settings) as panel:
            asked = {"url": panel.url, "subject": "hedy"}
            seen = await seen_by("panel_oidc.mjs", asked, within_s=120)
    assert seen["problems"] == []
    assert seen["provider"] == issuer
    # This provider says no without the state, so that it cannot be told from an old log-in.
    assert "Try again" in seen["stopped"]
    assert seen["out"] == 401
    # Neither a code nor a state stays in the address.
    assert seen["address"] == f"{panel.url}/"
    assert (seen["first"]["email"], seen["first"]["role"]) == ("hedy@provider.example", "owner")
    assert seen["again"]["account_id"] == seen["first"]["account_id"]
    assert (seen["gone"], seen["httpOnly"]) == (401, True)
