"""What must hold after every commit, and at rest, told from the gateway's side alone."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from deploy.local.stripe_sim.world import World as GatewayWorld
from services.billing.adapters.ledger_memory import LedgerTables
from services.billing.domain.book import Book
from services.billing.domain.events import TransactionPosted
from services.billing.domain.payment_state import ROW_CLASSES
from services.common.ids import AccountId
from tests.sim.store import Advance
from tests.sim.stripe_people import CENT, DAY_MAX, MONTH_MAX
from tests.sim.world import World


class StripeAudit:
    """Sees every commit, and the gateway at the end."""

    def __init__(self, world: World, gateway: GatewayWorld) -> None:
        self._world = world
        self._gateway = gateway
        self._seen = 0
        self._causes: set[tuple[str, str]] = set()
        self.transactions: list[TransactionPosted] = []
        self.book = Book()

    def committed(self, tables: LedgerTables, advanced: list[Advance]) -> None:
        """Folds what is new, and holds the tables against it."""
        for recorded in tables.events[self._seen :]:
            event = recorded.event
            self.book.record(event, occurred_at_ms=recorded.occurred_at_ms)
            if isinstance(event, TransactionPosted):
                self.transactions.append(event)
                cause: tuple[str, str] = (event.account_id, event.idempotency_key)
                if event.idempotency_key.startswith(("payment:", "refund:", "dispute:")):
                    # Whatever account: the gateway's ids are its own.
                    cause = ("", event.idempotency_key)
                self._check("once_per_cause", cause not in self._causes, cause)
                self._causes.add(cause)
        self._seen = len(tables.events)
        self.book.recorded.clear()
        self.book.payments.touched.clear()
        self._check("wallet_is_fold", tables.wallets == self.book.wallets, "wallets")
        taken: defaultdict[str, int] = defaultdict(int)
        for refund in tables.payments.refund.values():
            # What is only reserved may be refused, for what was taken meanwhile.
            taken[refund.payment_id] += refund.amount_nanousd if refund.status == "made" else 0
        for dispute in tables.payments.dispute.values():
            taken[dispute.payment_id] += dispute.amount_nanousd if dispute.status != "won" else 0
        for payment in tables.payments.payment.values():
            fits = 0 <= taken[payment.payment_id] <= payment.received_nanousd
            self._check("taken_within_payment", fits, payment)
        refills: defaultdict[AccountId, int] = defaultdict(int)
        for refill in tables.payments.refill.values():
            refills[refill.account_id] += refill.status in ("started", "processing")
        self._check("one_refill_open", max(refills.values(), default=0) <= 1, "two")

    def _check(self, name: str, holds: bool, what: object) -> None:
        self._world.require(name, holds, lambda: str(what))

    def at_rest(self, tables: LedgerTables) -> None:
        """Everything against the gateway, whose state is the truth about money there."""
        self._payments(tables)
        self._refills(tables)
        self._totals(tables)
        for table in ROW_CLASSES:
            same = tables.payments.rows(table) == self.book.payments.rows(table)
            self._check("rows_are_fold", same, table)

    def _payments(self, tables: LedgerTables) -> None:
        rows = tables.payments
        taken: defaultdict[str, int] = defaultdict(int)
        for refund in self._gateway.where("refund"):
            if refund["status"] != "failed":
                taken[refund["payment_intent"]] += refund["amount"] * CENT
        for dispute in self._gateway.where("dispute"):
            if dispute["status"] != "won":
                taken[dispute["payment_intent"]] += dispute["amount"] * CENT
        paid = {
            one["id"]: one
            for one in self._gateway.where("payment_intent")
            if one["status"] == "succeeded"
        }
        self._check(
            "credited_once",
            set(paid) == set(rows.payment),
            f"{sorted(set(paid) ^ set(rows.payment))}",
        )
        for key, intent in paid.items():
            row = rows.payment.get(key)
            amount = intent["amount_received"] * CENT
            right = row is not None and row.received_nanousd == amount
            self._check("credited_right", right, f"{key}: {row}")
            wanted = self._wanted(intent) * CENT
            right = row is not None and row.credited_nanousd == wanted <= amount
            self._check("credited_without_tax", right, f"{key}: {wanted} {row}")
            same = row is not None and row.taken_nanousd == taken[key]
            self._check("taken_back_right", same, f"{key}: {taken[key]} {row}")
        for top_up in rows.top_up.values():
            ended = top_up.status in ("paid", "failed", "expired")
            self._check("top_up_ends", ended, top_up)

    def _wanted(self, intent: dict[str, Any]) -> int:  # Any: JSON
        """What somebody wanted to have of a payment, in cents: all of it but its tax."""
        for session in self._gateway.where("checkout.session", payment_intent=intent["id"]):
            return int(session["amount_subtotal"])
        return int(intent["amount"])

    def _refills(self, tables: LedgerTables) -> None:
        """No refill charged twice; no day and no month above its ceiling; none left open."""
        charges: defaultdict[str, int] = defaultdict(int)
        days: defaultdict[tuple[str, str], int] = defaultdict(int)
        for charge in self._gateway.where("charge"):
            refill_id = charge["metadata"].get("mesh_refill_id")
            if not refill_id:
                continue
            charges[refill_id] += 1
            refill = tables.payments.refill[refill_id]
            amount = charge["amount"] * CENT
            self._check("refill_amount", amount == refill.amount_nanousd, refill)
            at = datetime.fromtimestamp(charge["created"], UTC)
            for form in ("%Y-%m-%d", "%Y-%m"):
                days[refill.account_id, at.strftime(form)] += amount
        for refill_id, count in charges.items():
            self._check("charged_once", count == 1, refill_id)
            status = tables.payments.refill[refill_id].status
            self._check("charge_known", status == "succeeded", refill_id)
        for (account_id, when), amount in days.items():
            most = DAY_MAX if len(when) == 10 else MONTH_MAX
            what = f"{account_id} {when}: {amount}"
            self._check("within_ceiling", amount <= most, what)
        for refill in tables.payments.refill.values():
            ended = refill.status not in ("started", "processing")
            self._check("refill_ends", ended, refill)
            if refill.status == "succeeded":
                known = charges[refill.refill_id] == 1
                self._check("succeeded_was_charged", known, refill)

    def _totals(self, tables: LedgerTables) -> None:
        totals: defaultdict[str, int] = defaultdict(int)
        for transaction in self.transactions:
            for entry in transaction.entries:
                totals[entry.ledger_account] += entry.amount_nanousd
        moved = sum(one["amount"] for one in self._gateway.where("balance_transaction")) * CENT
        ours = -(totals["cash:stripe"] + totals["disputes"])
        self._check("journal_is_gateway", ours == moved, f"{ours} {moved}")
        held = sum(
            one["amount"] * CENT
            for one in self._gateway.where("dispute")
            if one["status"] not in ("won", "lost")
        )
        self._check("disputes_held", totals["disputes"] == held, f"{held}")
        kept = sum(
            (p.received_nanousd - p.credited_nanousd) - (p.taken_nanousd - p.wallet_taken_nanousd)
            for p in tables.payments.payment.values()
        )
        self._check("tax_is_what_is_kept", totals["tax"] == kept, f"{kept}")
        self._check("nothing_reserved", totals["refunds"] == 0, f"{totals['refunds']}")
        self._check("zero_sum", sum(totals.values()) == 0, "entries")
        promo = sum(
            one.amount_nanousd - _gone(one, self.transactions)
            for one in tables.payments.promo.values()
        )
        self._check("promo_is_what_is_left", -totals["promo"] == promo, f"{promo}")
        for account_id, wallet in tables.wallets.items():
            name = f"wallet:{account_id}"
            self._check("wallet_right", wallet.posted_nanousd == totals[name], name)


def _gone(promo: Any, transactions: list[TransactionPosted]) -> int:  # Any: a promo's row
    """What of a promotional credit was taken back."""
    prefix = f"promo_expired:{promo.promo_id}:"
    taken = [one for one in transactions if one.idempotency_key.startswith(prefix)]
    return sum(entry.amount_nanousd for one in taken for entry in one.entries
               if entry.ledger_account == "promo")  # fmt: skip
