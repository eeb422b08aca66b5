"""The unit of work of one account's payments: load, let the domain decide, write: all or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.billing.domain.book import Book
from services.billing.domain.ledger import Draft, post
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_seen import Posting, Step
from services.billing.domain.refills import decide_refill
from services.billing.domain.state import Wallet
from services.billing.ports import LedgerStore, LedgerUnit
from services.common.clock import Clock
from services.common.ids import AccountId, TransactionId, new_id


@dataclass(slots=True)
class Work:
    """One account in one unit of work."""

    unit: LedgerUnit
    book: Book
    account_id: AccountId
    now_ms: int

    @property
    def payments(self) -> PaymentBook:
        """The account's payment rows."""
        return self.book.payments

    @property
    def wallet(self) -> Wallet:
        """The account's wallet."""
        return self.book.wallets[self.account_id]

    def record(self, steps: Iterable[Step]) -> bool:
        """Adds what was decided, in its order; True where there was something."""
        count = len(self.book.recorded)
        record_steps(self.book, steps, now_ms=self.now_ms)
        return len(self.book.recorded) > count


@asynccontextmanager
async def working_on(
    store: LedgerStore, clock: Clock, account_id: AccountId
) -> AsyncIterator[Work]:
    """Opens the unit; what was recorded is written at its end, with a refill if one is due."""
    async with store.unit() as unit:
        await unit.ensure_wallets([account_id])
        book = Book(wallets=await unit.wallets([account_id]))
        book.payments.take(await unit.payments(account_id))
        work = Work(unit, book, account_id, clock.now_ms())
        yield work
        if book.recorded:
            await start_refills(unit, book, now_ms=work.now_ms)
            await unit.save(book)


async def start_refills(unit: LedgerUnit, book: Book, *, now_ms: int) -> int:
    """Commands the refills that are due after what this unit of work changed; how many.

    It stands in the same transaction as what made the balance low, so a refill is neither lost nor
    decided twice.
    """
    available = {one: book.wallets[one].available_nanousd for one in book.wallets_touched}
    started = 0
    # Of accounts that were loaded, this unit may have changed what the tables say.
    loaded = [one.account_id for one in book.payments.paying_account.values()]
    short = await unit.short_of_money(available, now_ms)
    for account_id in sorted({*short, *(one for one in loaded if one in available)}):
        if account_id not in book.payments.paying_account:
            book.payments.take(await unit.payments(account_id))
        steps = decide_refill(
            book.payments,
            account_id,
            refill_id=new_id("rfl", now_ms),
            available_nanousd=available[account_id],
            now_ms=now_ms,
        )
        record_steps(book, steps, now_ms=now_ms)
        started += len(steps)
    return started


def record_steps(book: Book, steps: Iterable[Step], *, now_ms: int) -> None:
    """Records events and posts transactions, in their order."""
    for step in steps:
        if isinstance(step, Posting):
            draft = Draft(
                TransactionId(new_id("tx", now_ms)),
                step.account_id,
                step.idempotency_key,
                step.kind,
                step.entries,
                step.occurred_at_ms or now_ms,
                now_ms,
                step.reason,
            )
            book.record(post(book.wallets[step.account_id], draft), occurred_at_ms=now_ms)
        else:
            book.record(step, occurred_at_ms=now_ms)
