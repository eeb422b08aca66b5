"""One embedded stack for the end-to-end tests of a run; tests that break it start their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.market import Market, open_market
from tests.e2e.stack import Stack, free_ports_from
from tests.fixtures.upstream import upstream_server


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A running stack with three gateway workers, traced into a file."""
    # Not below pytest's folder: the path of a unix socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mesh-e2e-"))
    trace_file = folder / "traces" / "spans.jsonl"
    found = Stack(
        folder / "data",
        free_ports_from(),
        gateway_workers=3,
        extra_env={
            "MESH_TRACE_EXPORTER": "file",
            "MESH_TRACE_FILE": str(trace_file),
            "MESH_GATEWAY_STALE_MAX_S": "8",
            "MESH_GATEWAY_JOBS_LEASE_S": "5",
            # Only of keys that say so too.
            "MESH_CONTENT_STORED": "true",
        },
    )
    found.start()
    yield found
    assert found.stop() == 0
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
async def market(stack: Stack) -> AsyncIterator[Market]:
    """A scripted provider on that stack."""
    async with upstream_server() as upstream:
        yield await open_market(stack, upstream)
