"""A new person's first hour with the panel, the payment page and the SDK."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys

from tests.e2e.stack import REPOSITORY, Stack

MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


async def test_a_new_person_pays_calls_reads_the_log_hits_a_cap_and_uses_a_template(
    stack: Stack,
) -> None:
    assert shutil.which("node"), "Node is installed by make setup"
    request = {
        "url": stack.demo["MESH_DASHBOARD_URL"],
        "apiUrl": stack.demo["MESH_BASE_URL"],
        "python": sys.executable,
        "shots": os.environ.get("MESH_TEST_SHOTS", ""),
    }
    process = await asyncio.create_subprocess_exec(
        "node", "tests/e2e/panel_story.mjs", json.dumps(request), cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, problems = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, problems.decode()
    seen = json.loads(out)
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
