"""Who asks for what: accounts with little money, keys with caps, callers who hang up, operators.

A caller goes through a worker the way the gateway's pipeline does (`services/gateway/ports.py`):
hold, admitted, the provider's answer, record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from services.billing.handlers import CreditAccount, credit_account
from services.common.errors import AppError, Unavailable
from services.common.events import record_of
from services.common.ids import AccountId, KeyId, RequestId, UsageId, UserId, new_id
from services.common.money import Price, Rate, TokenKind, cost_nanousd
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as pb
from services.common.pricing_pb import price_to_pb
from services.common.topics import KEYS
from services.gateway.money import Money
from services.gateway.ports import AdmittedRecord, Hold, HoldRequest, KeyPrincipal
from tests.sim.facts import (
    CACHED,
    COMPLETION,
    DAY,
    LIFETIME,
    PROMPT,
    REASONING,
    Ask,
    Credit,
    Key,
    ScopeOwner,
    Tariff,
    tariff,
)
from tests.sim.hosts import Gateway, Town
from tests.sim.loop import NETWORK, Process, spawn
from tests.sim.owners import capped, scoped_of, scopes_of_account
from tests.sim.workers_audit import WorkerAudit


class Workload:
    """The plan of a run, drawn from its seed."""

    def __init__(self, town: Town, audit: WorkerAudit, gateways: list[Gateway]) -> None:
        self.town, self.audit, self.gateways = town, audit, gateways
        self.world = town.world
        rng = self.world.rng
        self.accounts = [f"acc_{n}" for n in range(rng.randint(1, 3))]
        self.keys: list[Key] = []
        self.scopes: list[ScopeOwner] = []
        self.tariffs = [tariff(self.world.rng.randrange(1 << 30), n) for n in range(2)]
        self.free = Tariff("pv_free", {PROMPT: 0, CACHED: 0, COMPLETION: 0, REASONING: 0})
        self.requests = 0
        self._under_way: list[tuple[Process, asyncio.Task[None]]] = []

    def busy(self) -> bool:
        """True while a request or a credit is under way in a process that lives."""
        return any(process.alive and not task.done() for process, task in self._under_way)

    def _start(self, process: Process, work: Coroutine[Any, Any, None]) -> None:  # Any: asyncio's
        self._under_way.append((process, spawn(process, work)))

    def open_accounts(self) -> None:
        """Keys are published and money is credited, both while everything is already running."""
        rng = self.world.rng
        for account in self.accounts:
            self._open_scopes(account)
            for _ in range(rng.randint(1, 3)):
                cap = rng.choice([None, rng.randint(500, 30_000), rng.randint(5_000, 60_000)])
                window = rng.choice([LIFETIME, LIFETIME, DAY])
                key = Key(f"key_{len(self.keys)}", account, cap=cap, window=window)
                key.member, key.team = rng.choice(["usr_1", "usr_2"]), rng.choice(["", "a", "b"])
                if rng.random() < 0.3:
                    key.models = {f"m_{self.tariffs[0].name}": rng.randint(1_000, 20_000)}
                self.keys.append(key)
                self.audit.auditor.books.owner_keys[key.key_id] = key
                self.publish(key)
            self.credit(account, rng.randint(2_000, 80_000))

    def _open_scopes(self, account: str) -> None:
        """Some of an account's scopes are capped."""
        for owner in scopes_of_account(self.world.rng, account):
            self.scopes.append(owner)
            self.audit.auditor.books.scoped.owners[account, owner.name] = owner

    def binding(self, key: Key) -> list[ScopeOwner]:
        """The capped scopes that a key is in, and those of its account's models."""
        mine = {"account", f"team:{key.team}", f"member:{key.member}"}
        return [
            one
            for one in self.scopes
            if one.account_id == key.account_id
            and (one.name in mine or one.name.startswith("account_model:"))
        ]

    def publish(self, key: Key) -> None:
        """The accounts service says what the key's settings are, with the limits of its scopes."""
        key.published[key.version] = (key.cap, key.window, key.active)
        key.published_scopes[key.version] = (key.member, key.team, tuple(sorted(key.models)))
        key.published_models[key.version] = dict(key.models)
        settings = accounts_pb2.KeySettings(
            spend_cap_window=common_pb2.CapWindow.ValueType(key.window)
        )
        if key.cap is not None:
            settings.spend_cap_nanousd = key.cap
        settings.team_id = key.team
        for model, cap in key.models.items():
            settings.model_limits.add(model_id=model, limits=capped(cap, LIFETIME))
        state = accounts_pb2.KeyState(
            user_id=key.member,
            scopes=[
                accounts_pb2.ScopeLimits(
                    scope=one.name, limits=capped(one.cap, one.window), version=one.version
                )
                for one in self.binding(key)
            ],
            key_id=key.key_id,
            account_id=key.account_id,
            version=key.version,
            settings=settings,
            suspended=not key.active,
        )
        record = record_of(state, account_id=key.account_id, occurred_at_ms=self.world.now_ms())
        self._start(NETWORK, self._publish(key.key_id.encode(), record.to_bytes()))

    async def _publish(self, name: bytes, value: bytes) -> None:
        while True:
            try:
                self.town.log.append(KEYS.name, name, value)
            except Unavailable:
                await asyncio.sleep(0.2)
            else:
                return

    def change_key(self) -> None:
        """An owner changes a cap of a key or a scope, moves a key, suspends or resumes."""
        rng = self.world.rng
        if self.scopes and rng.random() < 0.3:
            self._change_scope(rng.choice(self.scopes))
            return
        key = rng.choice(self.keys)
        key.version += 1
        if rng.random() < 0.3:
            key.active = not key.active
        elif rng.random() < 0.4:
            key.team = rng.choice(["", "a", "b"])
        elif key.cap is not None:
            key.cap = max(0, key.cap + rng.randint(-5_000, 10_000))
        self.world.note(f"changes {key.key_id} {key.version} {key.cap} {key.active}")
        self.publish(key)

    def _change_scope(self, owner: ScopeOwner) -> None:
        """Every key in it is published with its new cap."""
        owner.version += 1
        owner.cap = max(0, owner.cap + self.world.rng.randint(-5_000, 10_000))
        owner.published[owner.version] = owner.cap
        self.world.note(f"changes {owner}")
        for key in self.keys:
            if owner in self.binding(key):
                key.version += 1
                self.publish(key)

    def credit(self, account: str, amount: int) -> None:
        """An operator credits an account, and asks again until it is told that it is done."""
        books = self.audit.auditor.books
        name = f"credit_{len(books.credits)}"
        credit = books.credits[account, name] = Credit(account, amount, name)
        self._start(NETWORK, self._credit(credit))

    async def _credit(self, credit: Credit) -> None:
        command = CreditAccount(AccountId(credit.account_id), credit.amount, "", credit.name)
        while not credit.sure:
            try:
                await credit_account(self.town.ledger, self.gateways[0].clock, command)
                credit.sure = True
            except Unavailable:
                await asyncio.sleep(0.5)

    def request(self) -> None:
        """One caller comes; where the worker is down, it is turned away by the connection."""
        rng = self.world.rng
        gateway = rng.choice(self.gateways)
        if gateway.money is None or gateway.draining or not self.keys:
            return
        key = rng.choice(self.keys[: 1 + rng.randrange(len(self.keys))])
        tariff = self.free if rng.random() < 0.1 else rng.choice(self.tariffs)
        prompt = {PROMPT: rng.randint(1, 400)}
        if rng.random() < 0.3:
            prompt[CACHED] = rng.randint(1, 200)
        most, least = rng.randint(1, 900), rng.choice([0, 1, 16])
        slices = rng.choice([0, 0, 1, 2, 5])
        full = tariff.cost(prompt | {COMPLETION: most})
        bound = tariff.cost(prompt | {COMPLETION: min(least, most)}) if least else full
        self.requests += 1
        usage_id = new_id("use", self.world.now_ms())
        ask = Ask(
            usage_id,
            key,
            tariff,
            gateway.name,
            gateway.lives,
            key.version,
            0 if tariff.is_free else max(1, full),
            0 if tariff.is_free else max(1, min(bound, full)),
            self.world.loop.time(),
        )
        caller = _Caller(self, gateway, gateway.money, ask, prompt=prompt, most=most, slices=slices)
        self._start(gateway.process, caller.run())


class _Caller:
    """One request on its way through a worker."""

    def __init__(
        self,
        workload: Workload,
        gateway: Gateway,
        money: Money,
        ask: Ask,
        *,
        prompt: Mapping[int, int],
        most: int,
        slices: int,
    ) -> None:
        self.audit, self.world = workload.audit, workload.world
        self.gateway, self.money, self.ask = gateway, money, ask
        self.scoped = scoped_of(ask.key, workload.binding(ask.key))
        self.prompt, self.most = prompt, most
        # How often its hold grows by as much output again while its answer comes.
        self.slices = 0 if ask.tariff.is_free else slices
        rates = {TokenKind(kind): Rate(rate) for kind, rate in ask.tariff.rates.items()}
        self.price = Price(ask.tariff.name, rates, ask.tariff.fee)
        self.received_ms = gateway.clock.now_ms()

    async def run(self) -> None:
        """From the key to the answer. No exception may leave it: that would be a lost request."""
        self.audit.asked(self.ask)
        try:
            hold = await self._place()
        except AppError as error:
            self.audit.refused(self.ask, error)
            await self._record(None, {}, pb.REQUEST_OUTCOME_REFUSED, error.http_status)
            return
        except TimeoutError:
            await self._record(None, {}, pb.REQUEST_OUTCOME_CLIENT_GONE, 0)
            return
        self.ask.admitted_at_ms = self.gateway.clock.now_ms()
        self.audit.held(self.ask, hold, self.ask.admitted_at_ms)
        try:
            self.money.journal.admitted(self._admitted(hold))
        except Unavailable as error:
            self.money.budget.release(hold)
            self.audit.released(self.ask)
            await self._record(None, {}, pb.REQUEST_OUTCOME_REFUSED, error.http_status)
            return
        self.ask.admitted = True
        await self._answer(hold)

    async def _place(self) -> Hold:
        ask = self.ask
        principal = KeyPrincipal(
            AccountId(ask.key.account_id),
            KeyId(ask.key.key_id),
            UserId("usr_1"),
            key_version=ask.key_version,
            scoped=self.scoped,
        )
        least = ask.bound if ask.bound < ask.full else 0
        request = HoldRequest(
            principal, self.price, UsageId(ask.usage_id), ask.full, least, ask.model_id
        )
        hangs_up = self.world.chance(0.05)
        patience_s = self.world.rng.random() * 0.5 if hangs_up else None
        async with asyncio.timeout(patience_s):
            return await self.money.budget.place(request)

    async def _answer(self, hold: Hold) -> None:
        """The provider answers, fails, counts more than was held, or its caller hangs up."""
        rng, ask = self.world.rng, self.ask
        await asyncio.sleep(
            rng.random() * rng.choice([0.05, 0.5, 3.0, 30.0 if rng.random() < 0.1 else 1.0])
        )
        fate = rng.random()
        for _ in range(self.slices):
            await asyncio.sleep(rng.random() * rng.choice([0.05, 1.0, 5.0]))
            if not await self._grow(hold):
                break
        if fate < 0.1:
            await self._record(hold, {}, pb.REQUEST_OUTCOME_UPSTREAM_ERROR, 502)
            return
        output = self._affordable(rng.randint(1, self.most * (1 + self.slices)))
        tokens = {**self.prompt, COMPLETION: output}
        if rng.random() < 0.3 and output > 1:
            tokens[REASONING] = rng.randint(1, output - 1)
            tokens[COMPLETION] -= tokens[REASONING]
        if fate > 0.97 and not ask.tariff.is_free:
            tokens[COMPLETION] += 2 * self.most
        gone = fate < 0.2
        outcome = pb.REQUEST_OUTCOME_CLIENT_GONE if gone else pb.REQUEST_OUTCOME_SUCCESS
        await self._record(hold, tokens, outcome, 200)

    async def _grow(self, hold: Hold) -> bool:
        """Puts another slice under the hold; False where it cannot be had."""
        more = max(1, self.ask.tariff.cost({COMPLETION: self.most}))
        least = max(1, more // self.world.rng.choice([1, 8, 1_000]))
        since_s = self.world.loop.time()
        try:
            await self.money.budget.grow(hold, more_nanousd=more, least_nanousd=least)
        except AppError as error:
            self.audit.not_grown(self.ask, error, least, since_s)
            return False
        self.audit.grown(self.ask, hold, more, least)
        return True

    def _affordable(self, output: int) -> int:
        """The most output up to this that the hold pays for; rates of reasoning are the same."""
        if self.ask.tariff.is_free:
            return output
        while output > 1 and self._cost(output) > self.ask.held:
            output -= max(1, output // 8)
        return output

    def _cost(self, output: int) -> int:
        return self.ask.tariff.cost({**self.prompt, COMPLETION: output})

    async def _record(
        self, hold: Hold | None, tokens: dict[int, int], outcome: int, status: int
    ) -> None:
        ask = self.ask
        event = self._event(tokens, outcome, status)
        self.audit.recording(ask, ask.tariff.cost(tokens) if tokens else 0)
        try:
            # Somebody who hangs up now has been billed all the same.
            async with asyncio.timeout(0.001 if self.world.chance(0.05) else None):
                await self.money.journal.record(event, hold)
        except Unavailable:
            self.audit.voided(ask)
        except TimeoutError:
            self.world.note(f"hung up while recording {ask.usage_id}")
        else:
            ask.sure = True
            self.world.note(f"recorded {ask.usage_id} {ask.cost}")

    def _admitted(self, hold: Hold) -> AdmittedRecord:
        ask = self.ask
        return AdmittedRecord(
            usage_id=UsageId(ask.usage_id),
            request_id=RequestId(f"req_{ask.usage_id}"),
            account_id=AccountId(ask.key.account_id),
            key_id=KeyId(ask.key.key_id),
            user_id=UserId("usr_1"),
            route="/v1/chat/completions",
            requested_model="m",
            model_id=ask.model_id,
            received_at_ms=self.received_ms,
            admitted_at_ms=ask.admitted_at_ms,
            grant_id=hold.grant_id,
            held_nanousd=hold.amount_nanousd,
        )

    def _event(self, tokens: Mapping[int, int], outcome: int, status: int) -> pb.UsageRecorded:
        """The event, with the cost as production computes it."""
        ask = self.ask
        quantities = {TokenKind(kind): count for kind, count in tokens.items()}
        event = pb.UsageRecorded(
            usage_id=ask.usage_id,
            request_id=f"req_{ask.usage_id}",
            account_id=ask.key.account_id,
            key_id=ask.key.key_id,
            user_id="usr_1",
            model_id=ask.model_id,
            outcome=pb.RequestOutcome.ValueType(outcome),
            http_status=status,
            received_at_ms=self.received_ms,
            admitted_at_ms=ask.admitted_at_ms,
            usage_basis=pb.USAGE_BASIS_PROVIDER if tokens else pb.USAGE_BASIS_NONE,
            price=price_to_pb(self.price),
            cost_nanousd=cost_nanousd(quantities, self.price) if tokens else 0,
        )
        for kind, count in tokens.items():
            event.quantities.add(kind=common_pb2.TokenKind.ValueType(kind), tokens=count)
        return event
