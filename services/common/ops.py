"""The operator's HTTP server of a process: /healthz (alive), /readyz (may get work), /metrics
(Prometheus).

`python -m services.common.ops URL` asks such a server from outside, for the health checks of
containers: it exits 0 on 200 and 1 on anything else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence

import aiohttp
from aiohttp import web

from services.common.config import HostPort
from services.common.telemetry import get_logger, metrics

_log = get_logger(__name__)

PROBE_TIMEOUT_S = 2.0

Check = Callable[[], bool]


class OpsServer:
    """Serves on `listen` (host:port); `checks` say by name what must be true before the process is
    ready.
    """

    def __init__(self, listen: str, checks: Mapping[str, Check]) -> None:
        self._listen = HostPort(listen)
        self._checks = checks
        self._draining = False
        self._runner: web.AppRunner | None = None
        self._stopped = asyncio.Event()
        self.port = 0

    async def start(self) -> None:
        """Listens and serves. Raises OSError where the address is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._listen.host, self._listen.port).start()
        self.port = self._runner.addresses[0][1]

    async def run(self) -> None:
        """Returns once `stop` was called; for a process that serves until told otherwise."""
        await self._stopped.wait()

    def drain(self) -> None:
        """From now on the process says that it is not ready."""
        self._draining = True

    async def stop(self) -> None:
        """Closes the listener."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        self._stopped.set()

    def not_ready(self) -> list[str]:
        """The names of the checks that fail; a check that raises fails."""
        failing = [name for name, check in self._checks.items() if not _passes(name, check)]
        return ["draining", *failing] if self._draining else failing

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        failing = self.not_ready()
        return web.json_response(
            {"ready": not failing, "not_ready": failing}, status=503 if failing else 200
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


def _passes(name: str, check: Check) -> bool:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - the edge: a broken check fails
        _log.error("readiness check raised", check=name, error=repr(error))
        return False


async def probe(url: str) -> str:
    """What is wrong with the answer to a GET of `url`, in one line; empty where it is a 200."""
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(url, allow_redirects=False) as answer:
                body = await answer.text(errors="replace")
                return "" if answer.status == 200 else f"{url}: {answer.status} {body}"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return f"{url}: {str(error) or type(error).__name__}"


def main(arguments: Sequence[str]) -> int:
    """The exit code of the probe; 2 where the command line is not one URL."""
    if len(arguments) != 1:
        print("usage: python -m services.common.ops URL", file=sys.stderr)
        return 2
    problem = asyncio.run(probe(arguments[0]))
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
