"""The HTTP endpoint for the payment gateway's notices: checks who sent one, keeps it, answers.

It answers before anything is looked at. A notice that is forged, stale, cut short or too long is
refused and leaves nothing behind; one that comes again is counted.
"""

from __future__ import annotations

from aiohttp import web

from services.billing import metrics
from services.billing.payment_ports import InboxRow, NoticeReader, NoticeRefused
from services.billing.payments.workers import Inbox
from services.common.clock import Clock
from services.common.config import HostPort
from services.common.errors import AppError
from services.common.telemetry import get_logger

log = get_logger(__name__)

BODY_BYTES_MAX = 512 * 1024


class WebhookServer:
    """Listens for notices; `reader` tells whether one is its gateway's, and what it says."""

    def __init__(
        self,
        listen: HostPort,
        inbox: Inbox,
        clock: Clock,
        *,
        reader: NoticeReader,
    ) -> None:
        self._listen = listen
        self._inbox = inbox
        self._clock = clock
        self._reader = reader
        self._runner: web.AppRunner | None = None
        self.port = 0

    def app(self) -> web.Application:
        """The application, for the server and for tests."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post(self._reader.path, self._receive)
        return app

    async def start(self) -> None:
        """Listens. Raises OSError where the address is taken."""
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._listen.host, self._listen.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the listener."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        status, outcome = await self.receive(body, request.headers.get(self._reader.header, ""))
        return web.json_response({"received": outcome}, status=status)

    async def receive(self, body: bytes, signature: str) -> tuple[int, str]:
        """Takes one delivery: the status of the answer, and what became of it."""
        status, outcome = await self._take(body, signature)
        metrics.WEBHOOKS.labels(outcome).inc()
        return status, outcome

    async def _take(self, body: bytes, signature: str) -> tuple[int, str]:
        now_ms = self._clock.now_ms()
        try:
            notice = self._reader.read(body, signature, now_ms=now_ms)
        except NoticeRefused as error:
            log.warning("webhook_refused", why=str(error))
            return 400, "refused"
        if notice is None:
            return 200, "ignored"
        try:
            is_new = await self._inbox.take(InboxRow(notice, now_ms, "webhook"))
        except AppError as error:
            log.warning("webhook_not_kept", error=error.message)
            return 503, "unavailable"
        return 200, "new" if is_new else "repeated"
