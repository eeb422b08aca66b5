"""The payment rows of the ledger in memory: what the twin of the PostgreSQL store adds for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.billing.domain.ledger import REVENUE
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_seen import CASH, DISPUTES
from services.billing.domain.payment_state import (
    OPEN_REFILL,
    OPEN_TOP_UP,
    ROW_CLASSES,
    PayingAccount,
    Refill,
    Refund,
    TopUp,
)
from services.common.ids import AccountId

if TYPE_CHECKING:
    from services.billing.adapters.ledger_memory import LedgerTables


def _of_account(rows: PaymentBook, account_id: AccountId) -> PaymentBook:
    found = PaymentBook()
    for table in ROW_CLASSES:
        found.rows(table).update(
            {key: row for key, row in rows.rows(table).items() if row.account_id == account_id}
        )
    return found


def _may_be_due(account: PayingAccount, available_nanousd: int, now_ms: int) -> bool:
    return (
        account.refill_enabled
        and bool(account.payment_method_id)
        and not account.open_refill_id
        and not account.pause
        and account.next_attempt_at_ms <= now_ms
        and available_nanousd < account.threshold_nanousd
    )


class MemoryPaymentUnit:
    """The part of `LedgerUnit` that is about payments."""

    _tables: LedgerTables

    async def payments(self, account_id: AccountId) -> PaymentBook:
        """Every payment row of an account."""
        return _of_account(self._tables.payments, account_id)

    async def spent(self, account_id: AccountId) -> int:
        """What the account ever spent on usage."""
        return self._tables.totals.get((account_id, REVENUE), 0)

    async def short_of_money(
        self, available: Mapping[AccountId, int], now_ms: int
    ) -> list[AccountId]:
        """Those of these accounts whose refill may be due."""
        accounts = self._tables.payments.paying_account
        return [
            account_id
            for account_id, nanousd in sorted(available.items())
            if account_id in accounts and _may_be_due(accounts[account_id], nanousd, now_ms)
        ]


class MemoryPayments:
    """The part of `LedgerStore` that is about payments."""

    tables: LedgerTables

    def _check(self) -> None:
        raise NotImplementedError

    async def due_refills(self, now_ms: int, limit: int) -> list[AccountId]:
        """Accounts whose refill may be due. Raises Unavailable."""
        self._check()
        wallets = self.tables.wallets
        return [
            one.account_id
            for one in self.tables.payments.paying_account.values()
            if one.account_id in wallets
            and _may_be_due(one, wallets[one.account_id].available_nanousd, now_ms)
        ][:limit]

    async def open_refills(self, limit: int) -> list[Refill]:
        """Charges under way. Raises Unavailable."""
        self._check()
        rows = [r for r in self.tables.payments.refill.values() if r.status in OPEN_REFILL]
        return sorted(rows, key=lambda one: one.started_at_ms)[:limit]

    async def open_refunds(self, limit: int) -> list[Refund]:
        """Refunds that were asked for and not made. Raises Unavailable."""
        self._check()
        rows = [r for r in self.tables.payments.refund.values() if r.status == "requested"]
        return sorted(rows, key=lambda one: one.since_ms)[:limit]

    async def open_top_ups(self, started_before_ms: int, limit: int) -> list[TopUp]:
        """Checkouts that have not ended. Raises Unavailable."""
        self._check()
        rows = [
            one
            for one in self.tables.payments.top_up.values()
            if one.status in OPEN_TOP_UP and one.started_at_ms <= started_before_ms
        ]
        return sorted(rows, key=lambda one: one.started_at_ms)[:limit]

    async def lapsed_promos(self, now_ms: int, limit: int) -> list[AccountId]:
        """Accounts with promotional credit left whose time is over. Raises Unavailable."""
        self._check()
        found = {
            one.account_id
            for one in self.tables.payments.promo.values()
            if one.remaining_nanousd and 0 < one.expires_at_ms <= now_ms
        }
        return sorted(found)[:limit]

    async def payments_of(self, account_id: AccountId) -> PaymentBook:
        """Every payment row of an account. Raises Unavailable."""
        self._check()
        return _of_account(self.tables.payments, account_id)

    async def payments_booked(self, from_ms: int, to_ms: int) -> list[tuple[str, AccountId]]:
        """Payments that were booked within this time. Raises Unavailable."""
        self._check()
        rows = self.tables.payments
        booked = [(p.payment_id, p.account_id, p.received_at_ms) for p in rows.payment.values()]
        booked += [(r.payment_id, r.account_id, r.since_ms) for r in rows.refund.values()]
        booked += [(d.payment_id, d.account_id, d.since_ms) for d in rows.dispute.values()]
        return sorted({(key, owner) for key, owner, at_ms in booked if from_ms <= at_ms < to_ms})

    async def money_at_gateway(self) -> tuple[int, int]:
        """What of all payments is at the gateway, by rows and by journal. Raises Unavailable."""
        self._check()
        rows = self.tables.payments
        received = sum(one.received_nanousd for one in rows.payment.values())
        refunded = sum(r.amount_nanousd for r in rows.refund.values() if r.status == "made")
        disputed = sum(d.amount_nanousd for d in rows.dispute.values() if d.status != "won")
        booked = sum(
            amount for (_, name), amount in self.tables.totals.items() if name in (CASH, DISPUTES)
        )
        return received - refunded - disputed, -booked

    async def gateway_total(self, account_id: str = "") -> Mapping[str, int]:
        """What the transactions add up to, by ledger account. Raises Unavailable."""
        self._check()
        totals: dict[str, int] = {}
        for (owner, name), amount in self.tables.totals.items():
            if account_id in ("", owner):
                totals[name] = totals.get(name, 0) + amount
        return totals
