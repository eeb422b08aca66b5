"""Alerts are sent signed, again after a failure, and never into the deployment's own network."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from socket import AF_INET, AddressFamily

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from services.common.clock import FakeClock
from services.common.errors import Conflict, InternalError, InvalidArgument, NotFound
from services.usage.alerts.guard import GuardedResolver, PrivateAddress, checked_url, is_public
from services.usage.alerts.secrets import SecretBox
from services.usage.alerts.store_memory import MemoryAlertStore
from services.usage.alerts.webhooks import ENDPOINTS_MAX, RETRIES_S, Courier, Webhooks
from services.usage.domain.alerts import Alert, AlertState

BOX = SecretBox(b"k" * 32)
STATE = AlertState("acc_1", "balance_low", "wallet", 1, 5, 0, 1)


class Receiver:
    """A server of the account: answers with `status`, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        headers = {"Location": f"{self.url}/elsewhere"} if self.status == 302 else {}
        return web.Response(status=self.status, headers=headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/{any:.*}", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


class Desk:
    """A store, webhooks and a courier at one fake clock."""

    def __init__(self, *, private_allowed: bool = True) -> None:
        self.clock = FakeClock()
        self.store = MemoryAlertStore()
        self.webhooks = Webhooks(self.store, BOX, self.clock, private_allowed=private_allowed)
        self.courier = Courier(self.store, BOX, self.clock, private_allowed=private_allowed)

    async def raise_alert(self) -> Alert:
        now_ms = self.clock.now_ms()
        alert = Alert(
            "alt_1", "acc_1", "balance.low", "balance_low", "wallet", 1, 5, 10, now_ms
        )  # fmt: skip
        assert await self.store.change(replace(STATE, changed_at_ms=now_ms), alert)
        return alert

    async def send(self) -> int:
        async with self.courier.session() as session:
            return await self.courier.send_due(session)


def signed_with(secret: str, headers: dict[str, str], body: bytes) -> str:
    signed = headers["Mesh-Webhook-Timestamp"].encode() + b"." + body
    return "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


async def test_an_alert_arrives_signed_over_the_very_bytes(receiver: Receiver) -> None:
    desk = Desk()
    _, secret = await desk.webhooks.create("acc_1", f"{receiver.url}/hook", ())
    alert = await desk.raise_alert()
    assert await desk.send() == 1
    [(headers, body)] = receiver.received
    assert headers["Mesh-Event-Id"] == alert.alert_id
    assert headers["Mesh-Webhook-Timestamp"] == str(desk.clock.now_ms() // 1000)
    assert headers["Mesh-Webhook-Signature"] == signed_with(secret, headers, body)
    told = json.loads(body)
    assert (told["id"], told["type"], told["account_id"]) == ("alt_1", "balance.low", "acc_1")
    assert told["data"]["value"] == 5
    [delivery] = await desk.store.deliveries("acc_1", limit=10)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 200)
    assert await desk.send() == 0


async def test_a_failed_delivery_is_tried_again_on_schedule_and_then_given_up(
    receiver: Receiver,
) -> None:
    desk = Desk()
    receiver.status = 500
    await desk.webhooks.create("acc_1", receiver.url, ())
    await desk.raise_alert()
    assert await desk.send() == 1
    for number, pause_s in enumerate(RETRIES_S, start=1):
        await desk.clock.advance(pause_s - 1)
        assert await desk.send() == 0
        await desk.clock.advance(1)
        assert await desk.send() == 1
        assert len(receiver.received) == number + 1
    [delivery] = await desk.store.deliveries("acc_1", limit=10)
    assert (delivery.state, delivery.attempts) == ("failed", 6)
    assert {headers["Mesh-Event-Id"] for headers, _ in receiver.received} == {"alt_1"}
    assert len({body for _, body in receiver.received}) == 1
    await desk.clock.advance(10**6)
    assert await desk.send() == 0


@pytest.mark.parametrize("status", [302, 404])
async def test_anything_but_2xx_is_a_failure_and_redirects_are_not_followed(
    receiver: Receiver, status: int
) -> None:
    desk = Desk()
    receiver.status = status
    await desk.webhooks.create("acc_1", receiver.url, ())
    await desk.raise_alert()
    await desk.send()
    [delivery] = await desk.store.deliveries("acc_1", limit=10)
    assert (delivery.state, delivery.last_status) == ("pending", status)
    assert len(receiver.received) == 1


async def test_while_a_secret_is_rotated_both_sign(receiver: Receiver) -> None:
    desk = Desk()
    receiver.status = 500
    endpoint, old = await desk.webhooks.create("acc_1", receiver.url, ())
    await desk.raise_alert()
    _, new = await desk.webhooks.rotate("acc_1", endpoint.endpoint_id, grace_s=60)
    await desk.send()
    await desk.clock.advance(60)
    await desk.send()
    [(first, body), (second, _)] = receiver.received
    both = f"{signed_with(new, first, body)},{signed_with(old, first, body)}"
    assert first["Mesh-Webhook-Signature"] == both
    assert second["Mesh-Webhook-Signature"] == signed_with(new, second, body)
    with pytest.raises(NotFound):
        await desk.webhooks.rotate("acc_2", endpoint.endpoint_id, grace_s=0)


async def test_an_address_inside_is_refused_when_set_and_when_sent(receiver: Receiver) -> None:
    outside = Desk(private_allowed=False)
    with pytest.raises(InvalidArgument, match="url"):
        await outside.webhooks.create("acc_1", receiver.url, ())
    # Set while the deployment allowed it.
    inside = Webhooks(outside.store, BOX, outside.clock, private_allowed=True)
    await inside.create("acc_1", receiver.url, ())
    await outside.raise_alert()
    await outside.send()
    assert receiver.received == []
    [delivery] = await outside.store.deliveries("acc_1", limit=10)
    assert delivery.last_error


async def test_an_account_has_a_few_endpoints_of_known_types() -> None:
    desk = Desk()
    with pytest.raises(InvalidArgument, match="event_types"):
        await desk.webhooks.create("acc_1", "https://example.com", ("nothing.happened",))
    for _ in range(ENDPOINTS_MAX):
        await desk.webhooks.create("acc_1", "https://example.com", ("balance.low",))
    with pytest.raises(Conflict):
        await desk.webhooks.create("acc_1", "https://example.com", ())


def test_a_sealed_secret_opens_with_its_key_for_its_endpoint_alone() -> None:
    sealed = BOX.seal("whe_1", "whsec_x")
    assert b"whsec_x" not in sealed
    assert BOX.open("whe_1", sealed) == "whsec_x"
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for box, endpoint_id, stored in (
        (BOX, "whe_2", sealed),
        (BOX, "whe_1", altered),
        (SecretBox(b"x" * 32), "whe_1", sealed),
    ):
        with pytest.raises(InternalError) as failed:
            box.open(endpoint_id, stored)
        assert "whsec_x" not in str(failed.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https://user:pw@example.com/",
        "https://localhost/", "https://printer/", "https://db.internal/", "https://x.local./",
        "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/",
        "https://017700000001/", "https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.9/",
        "https://169.254.169.254/latest/meta-data", "https://100.64.0.1/", "https://0.0.0.0/",
        "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1]/", "https://[fd00::1]/",
        "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/",
        "https://example.com:99999/", "https://exa mple.com/", "https://example.com/\n",
        "https://example.com/#x", "https://" + "a" * 2_000 + ".com/", "https://exämple.com/",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_public_internet_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="url"):
        checked_url(url, private_allowed=False)


def test_an_address_of_the_public_internet_will_do() -> None:
    for url in ("https://example.com/hook?x=1", "https://8.8.8.8:8443/", "https://[2606:4700::1]/"):
        assert checked_url(url, private_allowed=False) == url
    assert not is_public("not an address")


class Names(AbstractResolver):
    """Resolves every name to these addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        return None


async def test_a_name_that_points_inwards_is_not_connected_to() -> None:
    assert await GuardedResolver(Names("8.8.8.8")).resolve("example.com", 443)
    for addresses in (("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::1",), ()):
        with pytest.raises(PrivateAddress):
            await GuardedResolver(Names(*addresses)).resolve("example.com", 443)
