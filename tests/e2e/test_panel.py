"""The control panel in headless Chromium, as a person uses it."""

from __future__ import annotations

from tests.e2e.chromium import seen_by
from tests.e2e.stack import Stack


async def test_a_person_logs_in_makes_a_key_and_sees_its_request_and_cost(stack: Stack) -> None:
    demo = stack.demo
    request = {
        "url": demo["MESH_DASHBOARD_URL"],
        "email": demo["MESH_DEMO_EMAIL"],
        "password": demo["MESH_DEMO_PASSWORD"],
        "apiUrl": demo["MESH_BASE_URL"],
    }
    seen = await seen_by("panel.mjs", request, within_s=120)
    assert seen["problems"] == []
    assert seen["barriers"] == []
    assert "+ system | You write about {{ topic }}. Be brief." in seen["changed"]
    assert seen["played"].startswith("$0.0")
    assert "of $25.00" in seen["limited"]
    assert "600 RPM" in seen["limited"]
    assert len(seen["hookSecret"]) > 20
    assert "password is wrong" in seen["refusal"]
    assert seen["status"] == 200
    assert seen["seenAfterMs"] < 2_000
    usage = seen["completion"]["usage"]
    cost_nanousd = usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 400
    assert f"${cost_nanousd / 1e9:.9f}".rstrip("0") in seen["details"]
    assert seen["requestId"] in seen["details"]
