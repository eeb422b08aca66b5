"""A fresh worker for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.gateway import GatewayHarness, running_gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running_gateway(tmp_path) as harness:
        yield harness


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    """A worker that waits only a moment for its providers."""
    async with running_gateway(
        tmp_path, upstream_first_byte_s=0.2, upstream_idle_s=0.2, upstream_connect_s=0.2
    ) as harness:
        yield harness
