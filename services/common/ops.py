"""The operator's HTTP server of a process: /healthz (alive), /readyz (may get work), /metrics
(Prometheus).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from services.common.config import HostPort
from services.common.telemetry import get_logger, metrics

_log = get_logger(__name__)

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
