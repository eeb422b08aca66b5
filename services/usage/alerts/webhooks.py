"""The endpoints of accounts, and the way of alerts to them.

An alert goes to an endpoint until it answers 2xx, six times at most: at once, then after 30 s, 2
min, 10 min, 1 h and 6 h. A process that dies between the answer and the record sends again, with
the same `Mesh-Event-Id`, by which receivers tell.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
from aiohttp.resolver import ThreadedResolver
from prometheus_client import Counter

from services.common.clock import Clock
from services.common.errors import AppError, Conflict, InvalidArgument, NotFound
from services.common.ids import new_id
from services.common.telemetry import get_logger
from services.usage.alerts.guard import GuardedResolver, checked_url
from services.usage.alerts.ports import AlertStore, Delivery, Endpoint
from services.usage.alerts.secrets import SecretBox, new_secret, signature
from services.usage.domain.alerts import EVENT_TYPES, Alert

RETRIES_S = (30, 120, 600, 3_600, 21_600)
TIMEOUT_S = 10.0
LEASE_MS = 60_000
AT_ONCE = 20
ENDPOINTS_MAX = 10
ROTATION_MAX_S = 7 * 86_400
_IDLE_S = 1.0
_ERROR_LENGTH_MAX = 200

_SENT = Counter("mesh_webhook_attempts_total", "Attempts to deliver an alert.", ["result"])
_log = get_logger(__name__)


class Webhooks:
    """What accounts do with their endpoints."""

    def __init__(
        self, store: AlertStore, box: SecretBox, clock: Clock, *, private_allowed: bool
    ) -> None:
        self._store = store
        self._box = box
        self._clock = clock
        self._private_allowed = private_allowed

    async def create(
        self, account_id: str, url: str, event_types: tuple[str, ...]
    ) -> tuple[Endpoint, str]:
        """A new endpoint and its secret, which is not shown again. Raises InvalidArgument, and
        Conflict where there are too many.
        """
        unknown = sorted(set(event_types) - set(EVENT_TYPES))
        if unknown:
            raise InvalidArgument.of("event_types", f"has an unknown type: {unknown[0][:80]}")
        checked_url(url, private_allowed=self._private_allowed)
        if len(await self._store.endpoints(account_id)) >= ENDPOINTS_MAX:
            raise Conflict(f"the account has {ENDPOINTS_MAX} endpoints already")
        now_ms, secret = self._clock.now_ms(), new_secret()
        endpoint_id = new_id("whe", now_ms)
        types = tuple(dict.fromkeys(event_types))
        sealed = self._box.seal(endpoint_id, secret)
        endpoint = Endpoint(endpoint_id, account_id, url, types, sealed, None, 0, now_ms)
        await self._store.save_endpoint(endpoint)
        return endpoint, secret

    async def rotate(
        self, account_id: str, endpoint_id: str, *, grace_s: int
    ) -> tuple[Endpoint, str]:
        """A new secret; within the grace each request is signed with the old one as well."""
        if not 0 <= grace_s <= ROTATION_MAX_S:
            raise InvalidArgument.of("grace_s", f"is between 0 and {ROTATION_MAX_S:,}")
        for endpoint in await self._store.endpoints(account_id):
            if endpoint.endpoint_id == endpoint_id:
                secret = new_secret()
                rotated = replace(
                    endpoint,
                    secret=self._box.seal(endpoint_id, secret),
                    previous_secret=endpoint.secret if grace_s else None,
                    previous_until_ms=self._clock.now_ms() + grace_s * 1000,
                )
                await self._store.save_endpoint(rotated)
                return rotated, secret
        raise NotFound(f"the account has no endpoint {endpoint_id}")

    async def delete(self, account_id: str, endpoint_id: str) -> None:
        """Ends what is under way to it. Raises NotFound."""
        if not await self._store.delete_endpoint(account_id, endpoint_id):
            raise NotFound(f"the account has no endpoint {endpoint_id}")


class Courier:
    """Sends what is due, until it is cancelled."""

    def __init__(
        self, store: AlertStore, box: SecretBox, clock: Clock, *, private_allowed: bool
    ) -> None:
        self._store = store
        self._box = box
        self._clock = clock
        self._private_allowed = private_allowed

    async def run(self) -> None:
        """Sends; a store that is away is waited for."""
        async with self.session() as session:
            while True:
                try:
                    busy = await self.send_due(session)
                except AppError as error:
                    busy = 0
                    _log.warning("alerts are not sent", error=error.message)
                if not busy:
                    await self._clock.sleep(_IDLE_S)

    def session(self) -> aiohttp.ClientSession:
        """Connections that reach the public internet alone, unless the deployment allows more."""
        inner = ThreadedResolver()
        resolver = inner if self._private_allowed else GuardedResolver(inner)
        connector = aiohttp.TCPConnector(resolver=resolver, limit=AT_ONCE, use_dns_cache=False)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def send_due(self, session: aiohttp.ClientSession) -> int:
        """Sends what is due now; how many that was."""
        due = await self._store.claim_due(
            now_ms=self._clock.now_ms(), limit=AT_ONCE, lease_ms=LEASE_MS
        )
        await asyncio.gather(*(self._attempt(session, one) for one in due))
        return len(due)

    async def _attempt(
        self, session: aiohttp.ClientSession, due: tuple[Delivery, Endpoint, Alert]
    ) -> None:
        delivery, endpoint, alert = due
        status, problem = 0, ""
        try:
            status = await self._post(session, endpoint, alert)
            problem = "" if 200 <= status < 300 else f"answered {status}"
        except AppError as error:
            problem = error.message
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        _SENT.labels("delivered" if not problem else "failed").inc()
        await self._store.save_delivery(self._after(delivery, status, problem))

    def _after(self, delivery: Delivery, status: int, problem: str) -> Delivery:
        attempts = delivery.attempts + 1
        done = replace(
            delivery,
            attempts=attempts,
            last_status=status,
            last_error=problem[:_ERROR_LENGTH_MAX].replace("\0", ""),
        )
        if not problem:
            return replace(done, state="delivered")
        if attempts > len(RETRIES_S):
            return replace(done, state="failed")
        return replace(done, next_at_ms=self._clock.now_ms() + RETRIES_S[attempts - 1] * 1000)

    async def _post(self, session: aiohttp.ClientSession, endpoint: Endpoint, alert: Alert) -> int:
        # An address of numbers is not resolved, and rules may have changed since it was set.
        checked_url(endpoint.url, private_allowed=self._private_allowed)
        body, now_ms = body_of(alert), self._clock.now_ms()
        timestamp_s = now_ms // 1000
        secrets = [self._box.open(endpoint.endpoint_id, endpoint.secret)]
        if endpoint.previous_secret is not None and now_ms < endpoint.previous_until_ms:
            secrets.append(self._box.open(endpoint.endpoint_id, endpoint.previous_secret))
        signatures = (signature(one, timestamp_s=timestamp_s, body=body) for one in secrets)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "mesh-webhooks/1",
            "Mesh-Event-Id": alert.alert_id,
            "Mesh-Webhook-Timestamp": str(timestamp_s),
            "Mesh-Webhook-Signature": ",".join(signatures),
        }
        async with session.post(
            endpoint.url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status


def body_of(alert: Alert) -> bytes:
    """What is sent; the same at each attempt."""
    moment = datetime.fromtimestamp(alert.occurred_at_ms / 1000, UTC)
    told = {
        "id": alert.alert_id,
        "type": alert.event_type,
        "created_at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account_id": alert.account_id,
        "data": {
            "kind": alert.kind,
            "subject": alert.subject,
            "level": alert.level,
            "value": alert.value,
            "threshold": alert.threshold,
        },
    }
    return json.dumps(told, separators=(",", ":")).encode()
