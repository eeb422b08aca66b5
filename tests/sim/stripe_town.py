"""A town with a payment gateway: billing's processes, the bad line to it, and its notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import stripe

from deploy.local.stripe_sim import api
from deploy.local.stripe_sim.world import World as GatewayWorld
from services.billing.adapters.inbox_memory import MemoryInbox
from services.billing.adapters.payments_stripe import StripeGateway, stripe_client
from services.billing.adapters.stripe_notices import StripeNotices
from services.billing.domain.refills import RefillRules
from services.billing.entrypoints.webhook import WebhookServer
from services.billing.payment_ports import InboxRow
from services.billing.payments.observe import Observer
from services.billing.payments.reconcile import Reconciler
from services.billing.payments.workers import Charger, Inbox
from services.common.config import HostPort
from services.common.errors import Unavailable
from tests.sim.hosts import Host, Town
from tests.sim.loop import NETWORK, Killed, Process, spawn
from tests.sim.store import SimLedger
from tests.sim.world import World

T = TypeVar("T")
SECRET, OLD_SECRET = "whsec_new_secret_of_the_run", "whsec_old_secret_of_the_run"


class Gone(Exception):
    """The process died before it answered."""


async def within(process: Process, work: Coroutine[Any, Any, T]) -> T:
    """Runs something in a process; raises Gone where that dies meanwhile."""
    task = spawn(process, work)
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    process.on_death.append(lambda: None if gone.done() else gone.set_result(None))
    if not process.alive:
        raise Gone
    both: set[asyncio.Future[Any]] = {task, gone}  # Any: of different results
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        raise Gone
    try:
        return task.result()
    except Killed as error:
        raise Gone from error


class Line(stripe.HTTPClient):
    """The line to the gateway, as the package's HTTP client: answers come late, or never."""

    name = "sim"

    def __init__(self, town: StripeTown) -> None:
        super().__init__()
        self._world = town.world
        self._gateway = town.gateway
        self._charged = town.charged

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:  # Any: the package's type
        world = self._world
        world.point("before the call")
        await world.pause(0.1, 40.0)
        path, _, query = url.removeprefix("https://api.stripe.com").partition("?")
        text = post_data or query
        answer = api.handle(self._gateway, method.upper(), path, text=text, headers=headers)
        body = json.dumps(answer.body).encode()
        if method == "post":
            world.note(f"{path} {answer.status}{' lost' if answer.lost else ''}")
            if path == "/v1/payment_intents":
                self._charged.set()
        await world.pause(0.1, 40.0)
        world.point("after the call")
        if answer.lost:
            raise stripe.APIConnectionError("the line broke")  # type: ignore[no-untyped-call]  # theirs
        return body, answer.status, {}


class SimInbox(MemoryInbox):
    """The box, in a database that many processes use."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def put(self, row: InboxRow) -> bool:
        await self._reach()
        is_new = await super().put(row)
        self._world.point("notice kept")
        await self._answer()
        return is_new

    async def due(self, now_ms: int, limit: int) -> list[InboxRow]:
        await self._reach()
        return await super().due(now_ms, limit)

    async def save(self, row: InboxRow) -> None:
        await self._reach()
        await super().save(row)
        self._world.point("notice done")
        await self._answer()

    async def _reach(self) -> None:
        self._world.point("asking the box")
        await self._world.pause(0.001)
        if self._world.chance(self._world.odds.store_fails):
            raise Unavailable("the box is away")

    async def _answer(self) -> None:
        if self._world.chance(self._world.odds.answer_lost):
            raise Unavailable("the connection was lost")


@dataclass(frozen=True, slots=True)
class StripeTown:
    """What billing's processes share and what outlives them."""

    world: World
    gateway: GatewayWorld
    ledger: SimLedger
    box: SimInbox
    rules: RefillRules
    every_s: float
    on_defect: Any  # Any: as the other town has it
    tax: bool
    # What a process takes when it starts, and what the gateway signs with.
    secrets: list[str]
    signs_with: list[str]
    # Set whenever a card was charged and the answer is on its way.
    charged: asyncio.Event


class PayingBilling(Host):
    """One billing process, as its bootstrap puts it together."""

    def __init__(self, town: StripeTown, name: str) -> None:
        super().__init__(cast(Town, town), name)
        self.stripe_town = town
        # Until when the machine is away, should it die before.
        self.away_until_s = 0.0
        self.observer: Observer | None = None
        self.server: WebhookServer | None = None
        self.gateway: StripeGateway | None = None

    async def work(self) -> None:
        town = self.stripe_town
        client = stripe_client("sk_test_run", http_client=Line(town))
        self.gateway = StripeGateway(
            client, return_url="http://panel/billing", is_test=True, tax=town.tax
        )
        observer = Observer(town.ledger, self.gateway, self.clock, rules=town.rules)
        inbox = Inbox(town.box, observer, self.clock, every_s=town.every_s)
        charger = Charger(observer, self.clock, every_s=town.every_s)
        reconciler = Reconciler(
            inbox,
            observer,
            self.clock,
            every_s=town.every_s * 6,
            compare_every_s=86_400.0,
            quiet_s=town.every_s * 12,
        )
        reader = StripeNotices(town.secrets, tolerance_s=300.0)
        server = WebhookServer(HostPort("127.0.0.1:0"), inbox, self.clock, reader=reader)
        self.observer, self.server = observer, server
        await asyncio.gather(inbox.run(), charger.run(), reconciler.run())

    def on_death(self) -> None:
        self.observer = self.server = self.gateway = None

    def _restart(self) -> None:
        left_s = self.away_until_s - self.town.world.loop.time()
        if left_s > 0:
            self.town.world.loop.call_later(left_s, self._restart)
        else:
            super()._restart()

    def go_away(self, seconds: float) -> None:
        """Dies now, and is not there again for so long."""
        self.away_until_s = self.town.world.loop.time() + seconds
        self.town.world.kill(self.process)


class Courier:
    """Carries the gateway's notices, by its plan, to whichever process is up."""

    def __init__(self, town: StripeTown, hosts: list[PayingBilling]) -> None:
        self._town = town
        self._hosts = hosts
        self.deliveries = 0
        self.forged = 0

    async def run(self) -> None:
        """For ever."""
        town = self._town
        while True:
            api.tick(town.gateway)
            for event_id, attempt in town.gateway.deliveries_due():
                spawn(NETWORK, self._deliver(event_id, attempt))
            next_ms = town.gateway.next_at_ms()
            wait_s = 40.0
            if next_ms is not None:
                wait_s = min(wait_s, max(0.05, (next_ms - town.world.now_ms()) / 1000))
            await asyncio.sleep(wait_s)

    async def _deliver(self, event_id: str, attempt: int) -> None:
        town, world = self._town, self._town.world
        secret = world.rng.choice(town.signs_with)
        payload = town.gateway.payload(event_id)
        signature = town.gateway.signature(payload, secret=secret)
        taken = await self._send(payload, signature) == 200
        self.deliveries += taken
        town.gateway.delivery_ended(event_id, attempt, taken=taken)

    async def _send(self, payload: bytes, signature: str) -> int:
        host = self._town.world.rng.choice(self._hosts)
        if host.server is None:
            return 0
        try:
            status, _ = await within(host.process, host.server.receive(payload, signature))
        except Gone:
            return 0
        return status

    async def forge(self) -> None:
        """Sends what must be refused, and sees that it was and left nothing."""
        town, world = self._town, self._town.world
        events = list(town.gateway.objects["event"])
        if not events:
            return
        payload = town.gateway.payload(world.rng.choice(events))
        good = town.gateway.signature(payload, secret=town.secrets[0])
        kind = world.rng.choice(["forged", "stale", "cut", "changed", "unsigned"])
        if kind == "forged":
            bad = payload, town.gateway.signature(payload, secret="whsec_of_somebody_else")
        elif kind == "stale":
            old_s = town.gateway.now_s - 3_600
            bad = payload, town.gateway.signature(payload, secret=town.secrets[0], at_s=old_s)
        elif kind == "cut":
            bad = payload[: len(payload) // 2], good
        elif kind == "changed":
            bad = payload.replace(b"evt_", b"evt_x", 1), good
        else:
            bad = payload, ""
        before = {key: replace(row) for key, row in town.box.rows.items()}
        status = await self._send(*bad)
        if status not in (0, 400):
            world.fail("forged_refused", f"{kind} was answered {status}")
        new = set(town.box.rows) - set(before)
        if any(key.startswith("evt_x") for key in new):
            world.fail("forged_refused", f"{kind} left {new}")
        self.forged += status == 400
