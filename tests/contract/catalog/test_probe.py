"""What trying a provider out promises: the same over HTTP and for the twin in memory."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from services.catalog.adapters.probe_http import HttpProbe, MemoryProbe
from services.catalog.domain.probe import ProbeRequest
from services.catalog.ports import ProviderProbe
from services.common.clock import SystemClock

STATUSES = (200, 401, 302, 503)


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe, the address of a provider, and one where nobody listens."""

    probe: ProviderProbe
    url: str
    nowhere: str


@pytest.fixture(params=["memory", "http"])
async def asked(request: pytest.FixtureRequest) -> AsyncIterator[Asked]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        nowhere = f"http://127.0.0.1:{held.getsockname()[1]}"
    if request.param == "memory":
        url = "http://provider.test"
        statuses = {f"{url}/{status}": status for status in STATUSES}
        yield Asked(MemoryProbe(statuses), url, nowhere)
        return
    app = web.Application()
    for status in STATUSES:

        async def answer(_: web.Request, status: int = status) -> web.Response:
            headers = {"location": "/200"} if status == 302 else {}
            return web.Response(status=status, headers=headers)

        app.router.add_get(f"/{status}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield Asked(HttpProbe(SystemClock()), f"http://127.0.0.1:{port}", nowhere)
    await runner.cleanup()


@pytest.mark.parametrize("status", STATUSES)
async def test_the_status_is_the_providers_and_no_redirect_is_followed(
    asked: Asked, status: int
) -> None:
    answer = await asked.probe.ask(ProbeRequest(f"{asked.url}/{status}", {"x-api-key": "secret"}))
    assert (answer.status, answer.problem) == (status, "")


async def test_where_nobody_answers_the_problem_is_told(asked: Asked) -> None:
    answer = await asked.probe.ask(ProbeRequest(f"{asked.nowhere}/200", {}))
    assert (answer.status, answer.problem) == (0, "it cannot be reached")
