"""The control panel in headless Chromium, as a person uses it."""

from __future__ import annotations

import gzip
import re

import aiohttp

from tests.e2e.chromium import seen_by
from tests.e2e.stack import Stack

FIRST_LOAD_BYTES_MAX = 250 * 1024


async def first_load_bytes(url: str) -> int:
    """How many bytes of script the page needs before it shows anything, packed with gzip."""
    async with aiohttp.ClientSession() as client:
        async with client.get(url) as answer:
            page = await answer.text()
        scripts = re.findall(r'(?:src|href)="(/assets/[^"]+\.js)"', page)
        assert scripts
        total = 0
        for script in scripts:
            async with client.get(url + script) as answer:
                total += len(gzip.compress(await answer.read()))
        return total


async def test_a_person_logs_in_makes_a_key_and_sees_its_request_and_cost(stack: Stack) -> None:
    demo = stack.demo
    request = {
        "url": demo["MESH_DASHBOARD_URL"],
        "email": demo["MESH_DEMO_EMAIL"],
        "password": demo["MESH_DEMO_PASSWORD"],
        "apiUrl": demo["MESH_BASE_URL"],
    }
    assert await first_load_bytes(demo["MESH_DASHBOARD_URL"]) <= FIRST_LOAD_BYTES_MAX
    seen = await seen_by("panel.mjs", request, within_s=240)
    assert seen["problems"] == []
    assert seen["barriers"] == []
    # The budget is 1.5 s and 100 ms on a machine of its own; here others work beside it.
    assert seen["readyMs"] < 6_000
    assert seen["sortedMs"] < 1_000
    assert "Free" not in seen["dearest"]
    assert "Context" not in seen["columns"]
    assert (seen["inside"], seen["back"]) == ("label", True)
    assert "+ system | You write about {{ topic }}. Be brief." in seen["changed"]
    assert seen["played"].startswith("$0.0")
    assert "of $25.00" in seen["limited"]
    assert "600 RPM" in seen["limited"]
    assert len(seen["hookSecret"]) > 20
    assert "Balance is low" in seen["told"]
    assert "Balance recovered" not in seen["told"]
    assert "password is wrong" in seen["refusal"]
    assert seen["status"] == 200
    assert seen["seenAfterMs"] < 2_000
    usage = seen["completion"]["usage"]
    cost_nanousd = usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 400
    assert f"${cost_nanousd / 1e9:.9f}".rstrip("0") in seen["details"]
    assert seen["requestId"] in seen["details"]
