"""The webhook endpoint over real HTTP: what is not signed by the gateway leaves nothing behind."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from deploy.local.stripe_sim import checkout, intents
from deploy.local.stripe_sim.world import World
from services.billing.adapters.inbox_memory import MemoryInbox
from services.billing.adapters.ledger_memory import MemoryLedger
from services.billing.adapters.stripe_notices import StripeNotices
from services.billing.domain.refills import RefillRules
from services.billing.entrypoints.webhook import BODY_BYTES_MAX, WebhookServer
from services.billing.payments.observe import Observer
from services.billing.payments.workers import Inbox
from services.common.clock import FakeClock
from services.common.config import HostPort

NEW, OLD = "whsec_new", "whsec_old"


class Endpoint:
    """A server, the simulated gateway that signs for it, and its box."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.world = World(now_ms=self.clock.now_ms, rng=random.Random(1), secret=NEW)
        self.box = MemoryInbox()
        observer = Observer(MemoryLedger(), None, self.clock, rules=RefillRules())  # type: ignore[arg-type]  # nothing is looked at here
        self.inbox = Inbox(self.box, observer, self.clock, every_s=1.0)
        self.server = self.serving(NEW, OLD)
        session = checkout.create_session(
            self.world,
            {
                "mode": "payment",
                "line_items": [{"price_data": {"unit_amount": "2000", "currency": "usd"}}],
            },
        )
        checkout.pay(self.world, session, number="4242424242424242")
        self.payload = self.world.payload(self.world.where("event")[0]["id"])

    def serving(self, *secrets: str) -> WebhookServer:
        """A server of its own, over the same box."""
        reader = StripeNotices(secrets, tolerance_s=300.0)
        return WebhookServer(HostPort("127.0.0.1:0"), self.inbox, self.clock, reader=reader)

    async def post(self, body: bytes, signature: str | None) -> int:
        url = f"http://127.0.0.1:{self.server.port}{StripeNotices.path}"
        headers = {} if signature is None else {StripeNotices.header: signature}
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=body, headers=headers) as answer:
                return answer.status


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """A listening endpoint."""
    made = Endpoint()
    await made.server.start()
    yield made
    await made.server.stop()


async def test_a_signed_notice_is_kept_once_and_its_repeats_are_counted(
    endpoint: Endpoint,
) -> None:
    signature = endpoint.world.signature(endpoint.payload)
    assert await endpoint.post(endpoint.payload, signature) == 200
    assert await endpoint.post(endpoint.payload, signature) == 200
    [row] = endpoint.box.rows.values()
    assert (row.deliveries, row.status, row.source) == (2, "new", "webhook")
    assert row.notice.payment_id.startswith("pi_")


async def test_while_the_secret_is_rotated_both_are_taken(endpoint: Endpoint) -> None:
    for secret in (OLD, NEW):
        signature = endpoint.world.signature(endpoint.payload, secret=secret)
        assert await endpoint.post(endpoint.payload, signature) == 200
    assert len(endpoint.box.rows) == 1


async def test_a_notice_signed_with_a_secret_not_yet_known_is_delivered_again_and_kept(
    endpoint: Endpoint,
) -> None:
    """The gateway signs with the new secret before a process knows it: nothing is lost."""
    world = endpoint.world
    event_id = world.where("event")[0]["id"]

    async def deliver() -> list[int]:
        answers = []
        for due_id, attempt in world.deliveries_due():
            body = world.payload(due_id)
            answer, _ = await endpoint.server.receive(body, world.signature(body, secret=NEW))
            world.delivery_ended(due_id, attempt, taken=answer == 200)
            answers.append(answer)
        return answers

    await endpoint.server.stop()
    endpoint.server = endpoint.serving(OLD)
    await endpoint.clock.advance(1)
    assert set(await deliver()) == {400}
    assert endpoint.box.rows == {}
    assert not world.delivered[event_id]
    endpoint.server = endpoint.serving(NEW, OLD)
    await endpoint.clock.advance(60)
    assert set(await deliver()) == {200}
    assert world.delivered[event_id]
    assert set(endpoint.box.rows) <= {event["id"] for event in world.where("event")}
    assert any(row.notice.type == "payment_intent.succeeded" for row in endpoint.box.rows.values())


async def test_what_is_forged_stale_cut_changed_or_unsigned_is_refused_and_changes_nothing(
    endpoint: Endpoint,
) -> None:
    world, payload = endpoint.world, endpoint.payload
    good = world.signature(payload)
    at_s = int(good.split(",")[0].removeprefix("t="))
    refused = [
        (payload, world.signature(payload, secret="whsec_other")),
        (payload, world.signature(payload, at_s=at_s - 301)),
        (payload, world.signature(payload, at_s=at_s + 301)),
        (payload, good.replace(f"t={at_s}", f"t={at_s - 1}")),
        (payload[:-1], good),
        (payload.replace(b"2000", b"9000"), good),
        (payload, None),
        (payload, ""),
        (payload, "t=,v1="),
        (payload, "t=" + "9" * 400 + ",v1=00"),
        (payload, good.split(",")[0]),
        (b"", world.signature(b"")),
        (b"[]", world.signature(b"[]")),
        (b"{}", world.signature(b"{}")),
        (b"\xff\xfe", "t=1,v1=00"),
    ]
    for body, signature in refused:
        assert await endpoint.post(body, signature) == 400, (body[:40], signature)
    assert endpoint.box.rows == {}


async def test_a_replay_after_the_tolerance_is_refused(endpoint: Endpoint) -> None:
    signature = endpoint.world.signature(endpoint.payload)
    assert await endpoint.post(endpoint.payload, signature) == 200
    await endpoint.clock.advance(301)
    assert await endpoint.post(endpoint.payload, signature) == 400
    assert [row.deliveries for row in endpoint.box.rows.values()] == [1]


async def test_a_body_without_bound_is_refused(endpoint: Endpoint) -> None:
    body = b" " * (BODY_BYTES_MAX + 1)
    assert await endpoint.post(body, endpoint.world.signature(body)) == 413


async def test_notices_that_are_no_business_of_ours_are_taken_and_forgotten(
    endpoint: Endpoint,
) -> None:
    customer = intents.create_customer(endpoint.world, {})
    event = endpoint.world.tell("customer.created", customer)
    payload = json.dumps(event).encode()
    assert await endpoint.post(payload, endpoint.world.signature(payload)) == 200
    assert endpoint.box.rows == {}
