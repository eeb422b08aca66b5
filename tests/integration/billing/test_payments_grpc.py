"""Payments as they are served: gRPC, the webhook and the simulated gateway over real HTTP."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from deploy.local.stripe_sim import checkout
from deploy.local.stripe_sim.app import make_app, system_now_ms
from deploy.local.stripe_sim.world import World
from services.billing.adapters.inbox_postgres import PostgresInbox
from services.billing.adapters.ledger_postgres import PostgresLedger
from services.billing.bootstrap import grant_desk, grpc_server
from services.billing.config import BillingSettings
from services.billing.entrypoints.payments import POLICIES, SERVICE
from services.billing.payments_bootstrap import compose_payments
from services.cli.context import SERVICES as ASKED
from services.common.clock import SystemClock
from services.common.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unauthorized
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.pb.mesh.billing.v1 import payments_pb2, payments_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually_async, running
from tests.integration.cli.test_command import Done, mesh

USD = 1_000_000_000
SECRET = "whsec_of_the_test"
OPERATOR = Principal("operator", "acc_1")
OWNER = Principal("user", "acc_1", user_id="usr_owner", role="owner")
STRANGER = Principal("user", "acc_2", user_id="usr_other", role="owner")
KEY = Principal("key", "acc_1", key_id="key_1")


def of_role(role: str) -> Principal:
    return replace(OWNER, user_id=f"usr_{role}", role=role)


@dataclass
class Served:
    """A billing that serves, the gateway behind it, and the command line beside it."""

    world: World
    pool: asyncpg.Pool
    channel: GrpcChannel
    folder: Path
    environment: dict[str, str]

    async def call(self, method: str, principal: Principal | None = OWNER, **fields: Any) -> Any:
        # Any: the fields of the method's message; its answer
        stub = payments_pb2_grpc.PaymentsServiceStub(self.channel.channel())
        request = getattr(payments_pb2, f"{method}Request")(**fields)
        return await self.channel.call(getattr(stub, method), request, principal=principal)

    async def top_up(self, dollars: int = 20, **fields: Any) -> str:  # Any: as above
        """Starts one and pays it; the payment's id, once it is credited."""
        opened = await self.call("StartTopUp", amount_nanousd=dollars * USD, **fields)
        session = self.world.find("checkout.session", opened.checkout_url.rsplit("/", 1)[1])
        checkout.pay(self.world, session, number="4242424242424242")

        async def credited() -> bool:
            found = await self.call("ListPayments")
            return session["payment_intent"] in {one.payment_id for one in found.payments}

        await eventually_async(credited)
        return str(session["payment_intent"])

    async def statement(self, form: int) -> tuple[str, bytes]:
        """This month's: what kind of file, and its bytes."""
        stub = payments_pb2_grpc.PaymentsServiceStub(self.channel.channel())
        request = payments_pb2.GetStatementRequest(
            month=datetime.now(UTC).strftime("%Y-%m"),
            format=payments_pb2.StatementFormat.ValueType(form),
        )
        parts = [
            one
            async for one in self.channel.stream(
                stub.GetStatement, request, principal=OWNER, timeout_s=30.0
            )
        ]
        assert "-TEST-MODE." in parts[0].file_name
        return parts[0].content_type, b"".join(one.part for one in parts)

    async def billing(self, *arguments: str) -> Done:
        """`mesh billing`."""
        return await mesh(self.folder, "billing", *arguments, **self.environment)


@pytest.fixture
async def served(billing_dsn: str, pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[Served]:
    webhook, gateway = unused_port(), unused_port()
    world = World(
        now_ms=system_now_ms, rng=random.Random(3), secret=SECRET,
        public_url=f"http://127.0.0.1:{gateway}",
    )  # fmt: skip
    settings = BillingSettings.model_validate(
        {
            "dsn": billing_dsn, "grpc_listen": "127.0.0.1:0", "stripe_key": "sk_test_x",
            "stripe_url": f"http://127.0.0.1:{gateway}", "stripe_webhook_secret": SECRET,
            "webhook_listen": f"127.0.0.1:{webhook}", "payments_every_s": 0.05,
            "top_up_least_usd": 7,
        }
    )  # fmt: skip
    runner = web.AppRunner(make_app(world, webhook=f"http://127.0.0.1:{webhook}/webhooks/stripe"))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", gateway).start()
    store = PostgresLedger(pool, unit_timeout_s=10.0)
    paying = compose_payments(store, pool, SystemClock(), settings=settings)
    server = grpc_server(store, pool, grant_desk(store, SystemClock(), settings), settings=settings)
    payments_pb2_grpc.add_PaymentsServiceServicer_to_server(paying.servicer, server.grpc)
    await server.start()
    secret = settings.service_secret.get_secret_value()
    address = f"127.0.0.1:{server.port}"
    channel = GrpcChannel(address, TokenSigner(secret, "cli"))
    environment = {f"MESH_{name.upper()}_ADDRESS": address for name in ASKED}
    environment["MESH_SERVICE_SECRET"] = secret
    async with AsyncExitStack() as stack:
        for component in paying.components:
            if component.start is not None:
                await component.start()
            if component.run is not None:
                await stack.enter_async_context(running(component.run))
        yield Served(world, pool, channel, tmp_path, environment)
        await channel.close()
        await server.stop(0)
    for component in reversed(paying.components):
        if component.stop is not None:
            await component.stop()
    await runner.cleanup()


async def test_only_an_owner_and_an_admin_may_pay_and_change_refills(served: Served) -> None:
    settings = payments_pb2.RefillSettings(
        enabled=True, threshold_nanousd=USD, amount_nanousd=10 * USD, day_max_nanousd=20 * USD,
        month_max_nanousd=90 * USD,
    )  # fmt: skip
    for caller in (of_role("viewer"), of_role("developer"), of_role(""), KEY):
        with pytest.raises(Forbidden):
            await served.call("StartTopUp", caller, amount_nanousd=20 * USD)
        with pytest.raises(Forbidden):
            await served.call("ConfigureRefill", caller, settings=settings)
    for caller in (OWNER, of_role("admin")):
        await served.call("StartTopUp", caller, amount_nanousd=20 * USD)
        changed = await served.call("ConfigureRefill", caller, settings=settings)
        assert changed.refill.state == "no_card"
    with pytest.raises(Unauthorized):
        await served.call("ListPayments", None)
    started = (await served.call("ListPayments", of_role("viewer"))).top_ups
    assert {one.requested_by for one in started} == {"usr_owner", "usr_admin"}


async def test_what_operators_do_nobody_else_may(served: Served) -> None:
    operators = [
        "RequestRefund", "GrantPromo", "ListInbox", "ReplayInbox", "ComparePayments",
    ]  # fmt: skip
    assert {f"/{SERVICE}/{name}" for name in operators} == {
        method for method, access in POLICIES.items() if access.principal == "operator"
    }
    for name in operators:
        for caller in (OWNER, KEY):
            with pytest.raises(Forbidden):
                await served.call(name, caller)


async def test_a_payment_its_receipt_and_its_history_are_the_account_s_own(
    served: Served,
) -> None:
    payment_id = await served.top_up(save_card=True, receipt_email="owner@example.com")
    url = (await served.call("GetReceipt", payment_id=payment_id)).url
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
    assert "TEST MODE" in text
    assert "owner@example.com" in text
    with pytest.raises(NotFound):
        await served.call("GetReceipt", STRANGER, payment_id=payment_id)
    with pytest.raises(Forbidden):
        await served.call("GetReceipt", KEY, payment_id=payment_id)
    assert not (await served.call("ListPayments", STRANGER)).payments
    assert not (await served.call("ListPaymentHistory", STRANGER)).facts
    facts = (await served.call("ListPaymentHistory")).facts
    assert [(one.kind, one.status, one.actor) for one in reversed(facts)] == [
        ("top_up", "started", "usr_owner"), ("top_up", "open", "mesh"),
        ("payment", "received", "mesh"), ("top_up", "paid", "mesh"), ("card", "saved", "mesh"),
    ]  # fmt: skip
    first = await served.call("ListPaymentHistory", page=common_pb2.PageRequest(page_size=2))
    rest = await served.call(
        "ListPaymentHistory",
        page=common_pb2.PageRequest(page_size=50, page_token=first.page.next_page_token),
    )
    assert [*first.facts, *rest.facts] == list(facts)
    stored = await served.pool.fetch("SELECT payload FROM events")
    assert not any(b"owner@example.com" in row["payload"] for row in stored)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"amount_nanousd": 6 * USD}, "from \\$7 to"),
        ({"amount_nanousd": 20 * USD + 1}, "whole cents"),
        ({"amount_nanousd": 20 * USD, "receipt_email": "no address"}, "receipt_email"),
        ({"amount_nanousd": 20 * USD, "receipt_email": "a@" + "b" * 300}, "receipt_email"),
    ],
)
async def test_a_top_up_that_cannot_be_names_what_is_wrong(
    served: Served, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidArgument, match=named):
        await served.call("StartTopUp", **fields)


async def test_refunds_and_credit_by_the_operator_act_once_and_stand_in_statements(
    served: Served,
) -> None:
    payment_id = await served.top_up(30)
    for key, dollars in (("one", 4), ("one", 4), ("two", 5)):
        await served.call(
            "RequestRefund", OPERATOR, payment_id=payment_id, amount_nanousd=dollars * USD,
            reason="as asked", idempotency_key=key,
        )  # fmt: skip
    with pytest.raises(Conflict):
        await served.call(
            "RequestRefund", OPERATOR, payment_id=payment_id, amount_nanousd=7 * USD,
            idempotency_key="one",
        )  # fmt: skip
    for _ in range(2):
        promo = await served.call(
            "GrantPromo", OPERATOR, amount_nanousd=3 * USD, reason="welcome", idempotency_key="p"
        )
        assert promo.posted_nanousd == (30 - 9 + 3) * USD

    async def made() -> bool:
        rows = (await served.call("ListPayments")).refunds
        return [one.status for one in rows] == ["made", "made"]

    await eventually_async(made)
    rest = await served.call("RequestRefund", OPERATOR, payment_id=payment_id, idempotency_key="3")
    assert rest.refund.amount_nanousd == 21 * USD
    kind, raw = await served.statement(payments_pb2.STATEMENT_FORMAT_CSV)
    assert kind.startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(raw.decode())))
    assert [(row["kind"], row["amount_usd"]) for row in rows if row["kind"] != "refund"] == [
        ("top_up", "30.00"), ("refund_reserved", "-4.00"), ("refund_reserved", "-5.00"),
        ("promo", "3.00"), ("refund_reserved", "-21.00"),
    ]  # fmt: skip
    kind, raw = await served.statement(payments_pb2.STATEMENT_FORMAT_HTML)
    assert kind.startswith("text/html")
    assert b"TEST MODE" in raw
    assert b"$3.00" in raw
    kind, raw = await served.statement(payments_pb2.STATEMENT_FORMAT_PDF)
    assert (kind, raw[:5]) == ("application/pdf", b"%PDF-")


async def test_a_bank_account_pays_later_or_not_at_all_and_a_dispute_is_lived_through(
    served: Served,
) -> None:
    """On the simulator's own pages, as a person would."""
    served.world.bank_delay_ms = 300
    async with aiohttp.ClientSession() as browser:

        async def post(url: str, **form: str) -> str:
            async with browser.post(url, data=form, allow_redirects=False) as answer:
                assert answer.status == 303, await answer.text()
                return answer.headers["Location"]

        async def standing(at: str) -> bool:
            return at in {one.status for one in (await served.call("ListPayments")).top_ups}

        for bank, ended in (("fails", "failed"), ("succeeds", "paid")):
            url = (await served.call("StartTopUp", amount_nanousd=20 * USD)).checkout_url
            back = await post(url, way="bank", bank=bank)
            assert back.startswith("http://127.0.0.1:8090/billing?top_up=")
            await eventually_async(lambda: standing("processing"))
            await eventually_async(partial(standing, ended))
        [payment] = (await served.call("ListPayments")).payments
        intent = served.world.find("payment_intent", payment.payment_id)
        root = served.world.public_url

        async def dispute_is(status: str) -> bool:
            rows = (await served.call("ListPayments")).disputes
            return [one.status for one in rows] == [status]

        await post(f"{root}/act/dispute/{intent['latest_charge']}")
        await eventually_async(lambda: dispute_is("open"))
        async with browser.get(root) as answer:
            overview = await answer.text()
        assert "TEST MODE" in overview
        assert "needs_response" in overview
        dispute_id = served.world.where("dispute")[0]["id"]
        await post(f"{root}/act/win/{dispute_id}")
        await eventually_async(lambda: dispute_is("won"))
    facts = (await served.call("ListPaymentHistory")).facts
    told = [one.status for one in reversed(facts) if one.kind == "dispute"]
    assert told == ["open", "won"]
    assert not (await served.call("ComparePayments", OPERATOR)).findings


async def test_an_operator_sees_notices_replays_one_and_compares(served: Served) -> None:
    payment_id = await served.top_up()
    listed = await served.billing("inbox", "list", "--json")
    assert listed.code == 0, listed.err
    assert "TEST MODE" in listed.err
    notices = [json.loads(line) for line in listed.out.splitlines()]
    [event_id] = [n["event_id"] for n in notices if n["type"] == "payment_intent.succeeded"]
    box = PostgresInbox(served.pool)
    row = await box.get(event_id)
    assert row is not None
    await box.save(replace(row, status="failed", error="a person is to look at it"))
    failed = await served.billing("inbox", "list", "--status", "failed", "--json")
    assert [json.loads(line)["event_id"] for line in failed.out.splitlines()] == [event_id]
    replayed = await served.billing("inbox", "replay", event_id, "--json")
    assert replayed.code == 0, replayed.err
    assert json.loads(replayed.out)["status"] == "done"
    unknown = await served.billing("inbox", "replay", "evt_none")
    assert unknown.code != 0
    compared = await served.billing("compare", "--json")
    assert compared.code == 0, compared.err
    found = json.loads(compared.out)
    assert (found["movements"], found["moved_usd"], found["findings"]) == (1, "20.00", "")
    # What the gateway no longer has is for a person, and the command says so.
    served.world.find("payment_intent", payment_id)["status"] = "canceled"
    differs = await served.billing("compare")
    assert differs.code == 1
    assert payment_id in differs.out
