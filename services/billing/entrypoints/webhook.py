"""The HTTP endpoint for the payment gateway's notices: checks who sent one, keeps it, answers.

It answers before anything is looked at. A notice that is forged, stale, cut short or too long is
refused and leaves nothing behind; one that comes again is counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import stripe
from aiohttp import web

from services.billing import metrics
from services.billing.adapters.stripe_objects import notice_from
from services.billing.payment_ports import InboxRow, Notice
from services.billing.payments.workers import Inbox
from services.common.clock import Clock
from services.common.config import HostPort
from services.common.errors import AppError
from services.common.telemetry import get_logger

log = get_logger(__name__)

PATH = "/webhooks/stripe"
BODY_BYTES_MAX = 512 * 1024
HEADER = "Stripe-Signature"


class Refused(Exception):
    """A delivery that is not taken; the text says why, for the log."""


def verified_notice(
    body: bytes, header: str, secrets: Sequence[str], *, now_ms: int, tolerance_s: float
) -> Notice | None:
    """The notice in a delivery; None where it is no business of ours. Raises Refused.

    Any of the secrets will do: while one is rotated, both are in force.
    """
    signed_at_s = _signed_at(header)
    if not any(_is_signed(body, header, secret) for secret in secrets):
        raise Refused("the signature is not ours")
    if abs(now_ms / 1000 - signed_at_s) > tolerance_s:
        raise Refused("the signature is stale")
    try:
        return notice_from(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("it is signed and is no notice") from error


def _signed_at(header: str) -> int:
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "t" and value.isdecimal() and len(value) < 15:
            return int(value)
    raise Refused("it has no signature")


def _is_signed(body: bytes, header: str, secret: str) -> bool:
    try:
        # Without a tolerance: the age is judged by our clock.
        stripe.WebhookSignature.verify_header(body, header, secret)
    except (stripe.SignatureVerificationError, ValueError):
        return False
    return True


class WebhookServer:
    """Listens for notices. `secrets` are those in force, the newest first."""

    def __init__(
        self,
        listen: HostPort,
        inbox: Inbox,
        clock: Clock,
        *,
        secrets: Sequence[str],
        tolerance_s: float,
    ) -> None:
        self._listen = listen
        self._inbox = inbox
        self._clock = clock
        self._secrets = [secret for secret in secrets if secret]
        self._tolerance_s = tolerance_s
        self._runner: web.AppRunner | None = None
        self.port = 0

    def app(self) -> web.Application:
        """The application, for the server and for tests."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post(PATH, self._receive)
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
        status, outcome = await self.receive(body, request.headers.get(HEADER, ""))
        return web.json_response({"received": outcome}, status=status)

    async def receive(self, body: bytes, header: str) -> tuple[int, str]:
        """Takes one delivery: the status of the answer, and what became of it."""
        status, outcome = await self._take(body, header)
        metrics.WEBHOOKS.labels(outcome).inc()
        return status, outcome

    async def _take(self, body: bytes, header: str) -> tuple[int, str]:
        now_ms = self._clock.now_ms()
        if not self._secrets:
            return 503, "not_configured"
        try:
            notice = verified_notice(
                body, header, self._secrets, now_ms=now_ms, tolerance_s=self._tolerance_s
            )
        except Refused as error:
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
