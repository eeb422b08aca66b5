"""The operators' pages in headless Chromium: for staff, and for nobody else."""

from __future__ import annotations

from tests.e2e.chromium import seen_by
from tests.e2e.stack import Stack


async def test_staff_look_after_the_installation_and_nobody_else_finds_the_pages(
    stack: Stack,
) -> None:
    demo = stack.demo
    request = {
        "url": demo["MESH_DASHBOARD_URL"],
        "email": demo["MESH_DEMO_EMAIL"],
        "password": demo["MESH_DEMO_PASSWORD"],
    }
    seen = await seen_by("panel_operator.mjs", request, within_s=180)
    assert seen["problems"] == []
    assert seen["barriers"] == []
    assert (seen["link"], seen["refused"]) == (0, 404)
    # A sentence, and the request by which it is found.
    assert "req_" in seen["wrong"]
    assert "It answers" in seen["tested"]
    assert "shown-nowhere" not in seen["masked"]
    assert "nothing wrong" in seen["verified"]
    assert "agree" in seen["compared"]
    assert {"billing-usage", "billing-keys"} <= set(seen["consumers"].split())
    assert "Operator acted" in seen["trail"]
