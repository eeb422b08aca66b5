"""A new person's first hour with the panel, the payment page and the SDK."""

from __future__ import annotations

import sys

from tests.e2e.chromium import seen_by
from tests.e2e.stack import Stack

MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


async def test_a_new_person_pays_calls_reads_the_log_hits_a_cap_and_uses_a_template(
    stack: Stack,
) -> None:
    request = {
        "url": stack.demo["MESH_DASHBOARD_URL"],
        "apiUrl": stack.demo["MESH_BASE_URL"],
        "python": sys.executable,
    }
    seen = await seen_by("panel_story.mjs", request, within_s=180)
    # Labels, names and contents that are markup are shown as text, and no script of theirs runs.
    assert seen["problems"] == []
    assert (seen["before"], seen["after"]) == ("0.00", "20.00")
    assert seen["first"]["status"] == 200
    assert seen["first"]["text"]
    assert seen["first"]["id"] in seen["firstDetails"]
    assert MARKUP in seen["firstDetails"]
    assert seen["capped"]["status"] == 402
    assert "spend cap is used up" in seen["capped"]["text"]
    assert "spend_limit_exceeded, at the stage guard_spend_cap" in seen["cappedDetails"]
    assert seen["templated"]["status"] == 200
    assert seen["missing"]["status"] == 422
    assert "also needs topic" in seen["missing"]["text"]
    assert seen["strange"]["status"] == 404
