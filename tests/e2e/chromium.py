"""Runs a script that uses the panel in headless Chromium, and hands over what it saw."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Any

from tests.e2e.stack import REPOSITORY


async def seen_by(script: str, asked: dict[str, str], *, within_s: float) -> Any:  # Any: JSON
    """What the script in this folder prints; a step that it could not do fails the test.

    MESH_TEST_SHOTS names a folder for pictures of the pages.
    """
    assert shutil.which("node"), "Node is installed by make setup"
    request = {**asked, "shots": os.environ.get("MESH_TEST_SHOTS", "")}
    process = await asyncio.create_subprocess_exec(
        "node", f"tests/e2e/{script}", json.dumps(request), cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, problems = await asyncio.wait_for(process.communicate(), within_s)
    assert process.returncode == 0, problems.decode()
    return json.loads(out)
