"""People come into an account by the links of invitations, in the browser."""

from __future__ import annotations

from tests.e2e.chromium import seen_by
from tests.e2e.stack import Stack


async def test_invited_people_join_by_their_links_and_choose_where_to_be(stack: Stack) -> None:
    seen = await seen_by(
        "panel_people.mjs", {"url": stack.demo["MESH_DASHBOARD_URL"]}, within_s=120
    )
    assert seen["problems"] == []
    # The token does not stay in the address.
    assert seen["address"].endswith("/join")
    assert (seen["joined"]["account_name"], seen["joined"]["role"]) == (
        "Ada's workshop", "developer",
    )  # fmt: skip
    assert "dan-" in seen["refusal"]
    assert seen["before"]["account_name"] == "Ada's workshop"
    assert (seen["after"]["account_name"], seen["after"]["role"]) == ("Carol", "owner")
    assert "withdrawn" in seen["withdrawn"]
