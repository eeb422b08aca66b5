"""Settlement: usage events from the log become journal transactions, each exactly once.

A batch is one unit of work: the cursor moves, usage ids are marked, charges are booked in the order
of the log, and all of it commits or none. A delivery of old offsets changes nothing; a usage id
that comes back as the same event is skipped, and as another event is put aside under an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.billing import metrics
from services.billing.domain.book import Book
from services.billing.domain.usage import Booked, UsageCharge, book_usage
from services.billing.handlers import scopes_of_grants
from services.billing.payments.work import start_refills
from services.billing.ports import LedgerStore, LedgerUnit
from services.billing.settlement.decode import Delivery, Unacceptable, charge_from_message
from services.common.clock import Clock
from services.common.ids import TransactionId, UsageId, new_id
from services.common.kafka import Batch, Claim, LogMessage
from services.common.telemetry import get_logger

log = get_logger()


class DeadLetterBox(Protocol):
    """Where messages go that cannot be taken. Raises once there are too many."""

    async def put(self, message: LogMessage, reason: str) -> None: ...


class UsageSettlement:
    """The target of the usage pump."""

    def __init__(self, store: LedgerStore, dead_letters: DeadLetterBox, clock: Clock) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._clock = clock

    async def claim(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Claim]:
        """Where this owner goes on, partition by partition."""
        return await self._store.claim(topic, partitions)

    async def apply(self, batch: Batch) -> None:
        """Books one batch. Raises StaleEpoch, GapDetected, TooManyDeadLetters or Unavailable."""
        with metrics.SETTLE_SECONDS.time():
            async with self._store.unit() as unit:
                messages = await unit.advance(batch)
                charges = await self._decode(messages)
                if charges:
                    await self._book(unit, charges)

    async def _decode(self, messages: Sequence[LogMessage]) -> dict[UsageId, Delivery]:
        """The charges by usage id, in the order of the log; what cannot be taken is put aside."""
        charges: dict[UsageId, Delivery] = {}
        for message in messages:
            try:
                charge = charge_from_message(message)
            except Unacceptable as error:
                await self._dead_letters.put(message, str(error))
                continue
            first = charges.setdefault(charge.usage_id, Delivery(charge, message))
            if first.message is not message:
                await self._seen_before(Delivery(charge, message), first.charge.content_hash)
        return charges

    async def _book(self, unit: LedgerUnit, charges: dict[UsageId, Delivery]) -> None:
        book = await self._load(unit, charges)
        before = await unit.mark_usage(
            {usage_id: delivery.charge.content_hash for usage_id, delivery in charges.items()}
        )
        now_ms = self._clock.now_ms()
        free = priced = 0
        for usage_id, delivery in charges.items():
            known = before.get(usage_id)
            if known is not None:
                await self._seen_before(delivery, known)
            elif delivery.charge.cost_nanousd == 0:
                free += 1
                _report(delivery.charge, Booked.of_nothing(delivery.charge))
            else:
                priced += 1
                transaction_id = TransactionId(new_id("tx", now_ms))
                booked = book_usage(
                    book, delivery.charge, transaction_id=transaction_id, booked_at_ms=now_ms
                )
                _report(delivery.charge, booked)
        if book.recorded:
            await start_refills(unit, book, now_ms=now_ms)
            await unit.save(book)
        metrics.SETTLED.labels("yes").inc(priced)
        metrics.SETTLED.labels("no").inc(free)

    async def _load(self, unit: LedgerUnit, charges: dict[UsageId, Delivery]) -> Book:
        priced = [one.charge for one in charges.values() if one.charge.cost_nanousd]
        accounts = {charge.account_id for charge in priced}
        await unit.ensure_wallets(accounts)
        book = Book(wallets=await unit.wallets(accounts))
        book.grants = await unit.grants({charge.grant_id for charge in priced if charge.grant_id})
        refs = {(charge.account_id, charge.key_id) for charge in priced if charge.key_id}
        refs |= {(grant.account_id, grant.key_id) for grant in book.grants.values()}
        book.keys = await unit.keys(refs)
        book.scopes = await unit.scopes(scopes_of_grants(book.grants.values()))
        return book

    async def _seen_before(self, delivery: Delivery, content_hash: bytes) -> None:
        if delivery.charge.content_hash == content_hash:
            metrics.SETTLED_REPEATS.inc()
            return
        metrics.ALARMS.labels("usage_content").inc()
        await self._dead_letters.put(
            delivery.message, f"usage id {delivery.charge.usage_id} was booked with other content"
        )


def _report(charge: UsageCharge, booked: Booked) -> None:
    """Counts and logs what should not have been; the journal entry names it too."""
    facts = {"usage_id": charge.usage_id, "account_id": charge.account_id}
    if booked.overrun:
        metrics.OVERRUNS.inc()
        log.warning("usage_overrun", grant_id=charge.grant_id, **facts)
    if booked.grant_unknown:
        metrics.ALARMS.labels("grant_unknown").inc()
        log.error("usage_grant_unknown", grant_id=charge.grant_id, **facts)
    if booked.cost_differs:
        metrics.ALARMS.labels("usage_cost").inc()
        log.error(
            "usage_cost_differs",
            booked_nanousd=charge.cost_nanousd,
            stated_nanousd=charge.stated_nanousd,
            **facts,
        )
