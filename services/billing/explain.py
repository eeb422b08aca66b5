"""Explains a balance: the entries that it is made of, up to any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from services.billing import views
from services.billing.adapters.events_pb import transaction_from_record
from services.billing.domain.events import TransactionPosted
from services.billing.domain.ledger import wallet_change
from services.common.ids import AccountId


@dataclass(frozen=True, slots=True)
class Explained:
    """A transaction, what it changed the wallet by, and the wallet after it, in nano-dollars."""

    transaction: TransactionPosted
    change_nanousd: int
    balance_nanousd: int


async def explain(
    pool: asyncpg.Pool, account_id: AccountId, *, at_ms: int
) -> AsyncIterator[Explained]:
    """The transactions booked at or before a moment, in the order of the journal.

    Their sum is the balance of that moment. Raises Unavailable.
    """
    balance_nanousd = 0
    async for record in views.journal(pool, account_id):
        transaction = transaction_from_record(record)
        if transaction.booked_at_ms <= at_ms:
            change = wallet_change(account_id, transaction.entries)
            balance_nanousd += change
            yield Explained(transaction, change, balance_nanousd)
