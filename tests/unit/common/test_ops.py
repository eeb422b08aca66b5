"""The operator's HTTP server."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from services.common.ops import OpsServer, main


async def get(server: OpsServer, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{server.port}{path}") as answer:
            return answer.status, await answer.text()


async def test_a_process_is_alive_and_says_what_is_not_ready() -> None:
    state = {"kafka": False, "database": True}

    def broken() -> bool:
        raise ZeroDivisionError

    server = OpsServer(
        "127.0.0.1:0",
        {"kafka": lambda: state["kafka"], "database": lambda: state["database"], "x": broken},
    )
    await server.start()
    assert await get(server, "/healthz") == (200, '{"alive": true}')
    assert await get(server, "/readyz") == (503, '{"ready": false, "not_ready": ["kafka", "x"]}')
    await server.stop()
    await server.run()


async def test_a_ready_process_is_not_ready_any_more_while_it_drains() -> None:
    server = OpsServer("127.0.0.1:0", {"kafka": lambda: True})
    await server.start()
    assert await get(server, "/readyz") == (200, '{"ready": true, "not_ready": []}')
    server.drain()
    assert await get(server, "/readyz") == (503, '{"ready": false, "not_ready": ["draining"]}')
    await server.stop()


async def test_metrics_are_in_the_format_of_prometheus() -> None:
    server = OpsServer("127.0.0.1:0", {})
    await server.start()
    status, text = await get(server, "/metrics")
    assert status == 200
    assert "# TYPE mesh_grpc_server_seconds histogram" in text
    await server.stop()


async def test_a_taken_address_is_an_error() -> None:
    server = OpsServer("127.0.0.1:0", {})
    await server.start()
    second = OpsServer(f"127.0.0.1:{server.port}", {})
    with pytest.raises(OSError, match=str(server.port)):
        await second.start()
    await second.stop()
    await server.stop()


async def test_the_probe_of_containers_exits_0_only_on_a_200(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = {"kafka": True}
    server = OpsServer("127.0.0.1:0", {"kafka": lambda: state["kafka"]})
    await server.start()
    url = f"http://127.0.0.1:{server.port}/readyz"
    assert await asyncio.to_thread(main, [url]) == 0
    assert capsys.readouterr().err == ""
    state["kafka"] = False
    assert await asyncio.to_thread(main, [url]) == 1
    assert '"not_ready": ["kafka"]' in capsys.readouterr().err
    await server.stop()
    assert await asyncio.to_thread(main, [url]) == 1
    assert capsys.readouterr().err.startswith(f"{url}: ")


@pytest.mark.parametrize("arguments", [[], ["not a url"], ["http://127.0.0.1:1/", "x"]])
def test_the_probe_of_containers_says_what_is_wrong_with_its_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
