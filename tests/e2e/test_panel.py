"""The control panel in headless Chromium, as a person uses it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil

from tests.e2e.stack import REPOSITORY, Stack


async def test_a_person_logs_in_makes_a_key_and_sees_its_request_and_cost(stack: Stack) -> None:
    assert shutil.which("node"), "Node is installed by make setup"
    demo = stack.demo
    request = {
        "url": demo["MESH_DASHBOARD_URL"],
        "email": demo["MESH_DEMO_EMAIL"],
        "password": demo["MESH_DEMO_PASSWORD"],
        "apiUrl": demo["MESH_BASE_URL"],
        "shots": os.environ.get("MESH_TEST_SHOTS", ""),
    }
    process = await asyncio.create_subprocess_exec(
        "node", "tests/e2e/panel.mjs", json.dumps(request), cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, problems = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, problems.decode()
    seen = json.loads(out)
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
