"""What the tests of the gateway's money are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TypeVar

from services.common.clock import FakeClock
from services.common.errors import AppError
from services.common.ids import (
    AccountId,
    GrantId,
    KeyId,
    RequestId,
    UsageId,
    UserId,
    WorkerId,
)
from services.common.money import Price, Rate, TokenKind
from services.common.pb.mesh.events.v1.usage_pb2 import REQUEST_OUTCOME_SUCCESS, UsageRecorded
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.budget.limits import BudgetLimits
from services.gateway.budget.ports import GrantTotal
from services.gateway.budget.service import PurseBudget
from services.gateway.journal.limits import JournalLimits
from services.gateway.journal.state import JournalPosition, event_from_envelope
from services.gateway.journal.wal import WriteAheadFile
from services.gateway.ports import AdmittedRecord, Hold, HoldRequest, KeyPrincipal

T = TypeVar("T")
ACCOUNT = AccountId("acc_1")
KEY = KeyId("key_1")
WORKER = WorkerId("w1")
PRICE = Price("pv_1", {TokenKind.PROMPT: Rate(1_000_000)})
FREE = Price("pv_free", {TokenKind.PROMPT: Rate(0)})
SMALL = JournalLimits(total_bytes=1_000_000, reserve_bytes=50_000, segment_bytes=4_000)


def principal(key_id: str = KEY, account_id: str = ACCOUNT) -> KeyPrincipal:
    """A key without limits of its own."""
    return KeyPrincipal(AccountId(account_id), KeyId(key_id), UserId("usr_1"), key_version=1)


def wants(
    name: str | int, full: int, least: int = 0, *, key_id: str = KEY, price: Price = PRICE
) -> HoldRequest:
    """A request for money."""
    return HoldRequest(principal(key_id), price, UsageId(f"use_{name}"), full, least)


def admitted(name: str | int, hold: Hold | None = None) -> AdmittedRecord:
    """A request as it is let in."""
    return AdmittedRecord(
        usage_id=UsageId(f"use_{name}"),
        request_id=RequestId(f"req_{name}"),
        account_id=ACCOUNT,
        key_id=KEY,
        user_id=UserId("usr_1"),
        route="/v1/chat/completions",
        requested_model="m",
        received_at_ms=1,
        admitted_at_ms=2,
        grant_id=hold.grant_id if hold else "",
        held_nanousd=hold.amount_nanousd if hold else 0,
    )


def event(name: str | int, cost: int = 0, grant_id: str = "") -> UsageRecorded:
    """A request that ended well."""
    return UsageRecorded(
        usage_id=f"use_{name}",
        request_id=f"req_{name}",
        account_id=ACCOUNT,
        key_id=KEY,
        outcome=REQUEST_OUTCOME_SUCCESS,
        cost_nanousd=cost,
        grant_id=grant_id,
    )


def usage_of(wal: WriteAheadFile, start: JournalPosition | None = None) -> list[UsageRecorded]:
    """Every event in the file that is not delivered, in order."""
    at, found = start or wal.delivered, []
    while at < wal.end:
        chunk = wal.read(at, wal.end)
        found += [event_from_envelope(envelope) for envelope in chunk.envelopes]
        at = chunk.end
    return found


def ids_of(events: Iterable[UsageRecorded]) -> list[str]:
    """Their usage ids."""
    return [found.usage_id for found in events]


def total(grant_id: str, spent: int = 0) -> GrantTotal:
    """A grant as the journal knows it."""
    return GrantTotal(GrantId(grant_id), WORKER, ACCOUNT, KEY, spent)


def open_wal(directory: Path, limits: JournalLimits = SMALL) -> WriteAheadFile:
    """The journal of this directory."""
    return WriteAheadFile(directory, limits)


class MemoryGrantLog:
    """The `GrantLog` without a disk."""

    def __init__(self) -> None:
        self.spent: dict[GrantId, int] = {}
        self.closed: list[GrantId] = []
        self.flushed = asyncio.Event()
        self.flushed.set()

    def grant_opened(self, total: GrantTotal) -> None:
        assert total.grant_id not in self.spent
        self.spent[total.grant_id] = total.spent_nanousd

    async def sync(self) -> None:
        await self.flushed.wait()

    def grant_closed(self, grant_id: GrantId) -> None:
        del self.spent[grant_id]
        self.closed.append(grant_id)

    def spent_nanousd(self, grant_id: GrantId) -> int:
        return self.spent[grant_id]


class Bench:
    """A budget over billing in memory, with virtual time."""

    def __init__(self, *, money: int, limits: BudgetLimits | None = None) -> None:
        self.clock = FakeClock()
        self.billing = MemoryGrants(clock=self.clock)
        self.billing.balances[ACCOUNT] = money
        self.log = MemoryGrantLog()
        self.budget = PurseBudget(
            self.billing, self.log, worker_id=WORKER, clock=self.clock, limits=limits
        )

    def settle(self, hold: Hold, cost: int) -> None:
        """Ends a hold the way the journal does: the record and the purse in one step."""
        if hold.grant_id:
            self.log.spent[hold.grant_id] += cost
        self.budget.settle(hold, cost)

    async def run_for(self, seconds: float) -> None:
        """Lets virtual time go by, and whoever can run do so before and after."""
        await _settle_down()
        await self.clock.advance(seconds)
        await _settle_down()

    async def until(self, awaitable: Awaitable[T], *, at_most_s: float = 30.0) -> T:
        """The result, with as much virtual time as it takes."""
        task = asyncio.ensure_future(awaitable)
        elapsed_s = 0.0
        await _settle_down()
        while not task.done():
            assert elapsed_s < at_most_s, "took too long"
            await self.run_for(0.01)
            elapsed_s += 0.01
        return task.result()

    async def place(self, request: HoldRequest) -> Hold:
        """The hold, with as much virtual time as it takes. Raises what `place` raises."""
        return await self.until(self.budget.place(request))

    async def place_all(self, requests: Iterable[HoldRequest]) -> list[Hold | AppError]:
        """What each of them got, asked for at once."""
        return await self.until(gather_answers(self.budget, requests))


async def _settle_down() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def gather_answers(
    budget: PurseBudget, requests: Iterable[HoldRequest]
) -> list[Hold | AppError]:
    """A hold or the refusal for each."""

    async def one(request: HoldRequest) -> Hold | AppError:
        try:
            return await budget.place(request)
        except AppError as error:
            return error

    return list(await asyncio.gather(*(one(request) for request in requests)))
