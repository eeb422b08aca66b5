"""The operators' pages in headless Chromium: for staff, and for nobody else."""

from __future__ import annotations

import re

from services.common.topics import USAGE
from tests.e2e.chromium import seen_by
from tests.e2e.letters import of_another_topic, put_aside
from tests.e2e.stack import Stack

SECRET = "rsk_01KDVDQ3G0AAAAAAAAAAAAAA01"


async def test_staff_look_after_the_installation_and_nobody_else_finds_the_pages(
    stack: Stack,
) -> None:
    await put_aside(stack, b"\xff not an event " + SECRET.encode(), of_another_topic(SECRET))
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
    assert "sk-" in seen["masked"][0]
    assert "shown-nowhere" not in seen["masked"][0]
    assert "nothing wrong" in seen["verified"]
    assert "agree" in seen["compared"]
    groups = seen["consumers"]
    assert {"billing-usage", "billing-keys", "usage", "usage-live"} <= set(groups.split())
    assert "mesh-usage-live-" in groups
    # Each has one process in it, which only the broker knows.
    assert groups.count("\t1\t6\t") == groups.count("mesh.") >= 5, groups
    assert seen["partitions"] == 1 + USAGE.partitions
    assert "accounts.KeyState" in seen["decoded"]
    assert "the key [redacted] of Ada" in seen["decoded"]
    assert SECRET not in seen["decoded"]
    assert "cannot be decoded" in seen["opened"]
    assert SECRET not in seen["opened"]
    assert {"Discarded", "by", "usr_"} <= set(re.findall(r"\w+?_|\w+", seen["discarded"]))
    assert "Operator acted" in seen["trail"]
