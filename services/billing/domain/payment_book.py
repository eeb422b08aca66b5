"""The payment rows of a unit of work, and the one fold of payment events over them.

`PaymentBook` is mutable and belongs to one unit of work; what it holds are values. The same fold
serves the live path, a rebuild and the verifier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from services.billing.domain.payment_events import (
    CardSaved,
    CustomerLinked,
    DisputeChanged,
    PaymentEvent,
    PaymentReceived,
    PromoCounted,
    PromoExpired,
    PromoGranted,
    PromoUsed,
    RefillChanged,
    RefillConfigured,
    RefillStarted,
    RefundChanged,
    RefundRequested,
    TopUpChanged,
    TopUpStarted,
)
from services.billing.domain.payment_state import (
    OPEN_REFILL,
    ROW_CLASSES,
    Dispute,
    PayingAccount,
    Payment,
    Promo,
    Refill,
    Refund,
    Row,
    RowT,
    TopUp,
)
from services.common.errors import ConcurrencyConflict, InternalError
from services.common.ids import AccountId


@dataclass(slots=True)
class PaymentBook:
    """The payment rows that a unit of work read, by id, and which of them it changed."""

    paying_account: dict[str, PayingAccount] = field(default_factory=dict)
    top_up: dict[str, TopUp] = field(default_factory=dict)
    payment: dict[str, Payment] = field(default_factory=dict)
    refund: dict[str, Refund] = field(default_factory=dict)
    dispute: dict[str, Dispute] = field(default_factory=dict)
    refill: dict[str, Refill] = field(default_factory=dict)
    promo: dict[str, Promo] = field(default_factory=dict)
    touched: set[tuple[str, str]] = field(default_factory=set)

    def account(self, account_id: AccountId) -> PayingAccount:
        """The account's row, or an empty one."""
        return self.paying_account.get(account_id) or PayingAccount(account_id)

    def rows(self, table: str) -> dict[str, Row]:
        """One table's rows by id."""
        found: dict[str, Row] = getattr(self, table)
        return found

    def copy(self) -> PaymentBook:
        """A copy that can be changed without changing this one; the rows are immutable."""
        return PaymentBook(*(dict(self.rows(table)) for table in ROW_CLASSES))  # type: ignore[arg-type]  # each table's own rows

    def take(self, other: PaymentBook) -> None:
        """Adds rows that were read."""
        for table in ROW_CLASSES:
            self.rows(table).update(other.rows(table))

    def take_touched(self, other: PaymentBook) -> None:
        """Adds rows that another working set changed. Raises ConcurrencyConflict."""
        for table, key in other.touched:
            rows, row = self.rows(table), other.rows(table)[key]
            if key in rows and rows[key].account_id != row.account_id:
                raise ConcurrencyConflict("another transaction was first")
            rows[key] = row

    def apply(self, event: PaymentEvent, at_ms: int) -> None:
        """Folds one event. Raises InternalError where it does not follow."""
        match event:
            case TopUpStarted() | TopUpChanged():
                self._put("top_up", event.top_up_id, self._top_up(event, at_ms))
            case CustomerLinked() | CardSaved() | RefillConfigured() | PromoCounted():
                self._account(event)
            case PaymentReceived():
                self._received(event, at_ms)
            case RefundRequested() | RefundChanged():
                self._refund(event, at_ms)
            case DisputeChanged():
                self._dispute(event, at_ms)
            case RefillStarted() | RefillChanged():
                self._refill(event, at_ms)
            case PromoGranted() | PromoUsed() | PromoExpired():
                self._put("promo", event.promo_id, self._promo(event, at_ms))
            case _:
                assert_never(event)

    def _put(self, table: str, key: str, row: Row) -> None:
        before = self.rows(table).get(key)
        if before is not None and before.account_id != row.account_id:
            raise InternalError(f"a {table} belongs to another account")
        self.rows(table)[key] = row
        self.touched.add((table, key))

    def _top_up(self, event: TopUpStarted | TopUpChanged, at_ms: int) -> TopUp:
        if isinstance(event, TopUpStarted):
            _is_new(event.top_up_id, self.top_up)
            return TopUp(
                event.top_up_id,
                event.account_id,
                event.amount_nanousd,
                event.save_card,
                event.requested_by,
                at_ms,
            )
        before = _known(self.top_up, event.top_up_id)
        return replace(
            before,
            status=event.status,
            session_id=event.session_id or before.session_id,
            payment_id=event.payment_id or before.payment_id,
            reason=event.reason,
        )

    def _account(self, event: CustomerLinked | CardSaved | RefillConfigured | PromoCounted) -> None:
        account = self.account(event.account_id)
        match event:
            case CustomerLinked():
                account = replace(account, customer_id=event.customer_id)
            case CardSaved():
                account = replace(
                    account,
                    payment_method_id=event.payment_method_id,
                    card_label=event.card_label,
                    pause="",
                    failures=0,
                )
            case RefillConfigured():
                account = replace(
                    account,
                    refill_enabled=event.enabled,
                    threshold_nanousd=event.threshold_nanousd,
                    amount_nanousd=event.amount_nanousd,
                    day_max_nanousd=event.day_max_nanousd,
                    month_max_nanousd=event.month_max_nanousd,
                    pause="",
                    failures=0,
                    switched_off_because="" if event.enabled else event.reason,
                )
            case PromoCounted():
                account = replace(account, promo_spent_nanousd=event.spent_nanousd)
        self._put("paying_account", event.account_id, account)

    def _received(self, event: PaymentReceived, at_ms: int) -> None:
        _is_new(event.payment_id, self.payment)
        row = Payment(
            event.payment_id,
            event.account_id,
            event.received_nanousd,
            event.credited_nanousd,
            event.top_up_id,
            event.refill_id,
            at_ms,
        )
        self._put("payment", event.payment_id, row)

    def _refund(self, event: RefundRequested | RefundChanged, at_ms: int) -> None:
        before = self.refund.get(event.refund_id)
        by = event.requested_by if isinstance(event, RefundRequested) else ""
        row = before or Refund(
            event.refund_id,
            event.account_id,
            event.payment_id,
            event.amount_nanousd,
            event.wallet_nanousd,
            by,
            at_ms,
        )
        if isinstance(event, RefundChanged):
            row = replace(
                row,
                status=event.status,
                gateway_refund_id=event.gateway_refund_id or row.gateway_refund_id,
                amount_nanousd=event.amount_nanousd,
                wallet_nanousd=event.wallet_nanousd,
                reason=event.reason or row.reason,
            )
        elif before is not None:
            raise InternalError("a refund was about to be asked for twice")
        else:
            row = replace(row, reason=event.reason)
        self._taken(event.payment_id, _refund_taken(row), _refund_taken(before))
        self._put("refund", event.refund_id, row)

    def _dispute(self, event: DisputeChanged, at_ms: int) -> None:
        before = self.dispute.get(event.dispute_id)
        row = Dispute(
            event.dispute_id,
            event.account_id,
            event.payment_id,
            event.amount_nanousd,
            event.wallet_nanousd,
            before.since_ms if before is not None else at_ms,
            event.status,
            event.reason,
        )
        self._taken(event.payment_id, _dispute_taken(row), _dispute_taken(before))
        self._put("dispute", event.dispute_id, row)

    def _taken(self, payment_id: str, now: tuple[int, int], before: tuple[int, int]) -> None:
        """Carries a change of a refund or a dispute over to its payment."""
        payment = _known(self.payment, payment_id)
        row = replace(
            payment,
            taken_nanousd=payment.taken_nanousd + now[0] - before[0],
            wallet_taken_nanousd=payment.wallet_taken_nanousd + now[1] - before[1],
        )
        self._put("payment", payment_id, row)

    def _refill(self, event: RefillStarted | RefillChanged, at_ms: int) -> None:
        account = self.account(event.account_id)
        if isinstance(event, RefillStarted):
            _is_new(event.refill_id, self.refill)
            if account.open_refill_id:
                raise InternalError("a refill was about to be started beside another")
            row = Refill(
                event.refill_id,
                event.account_id,
                event.amount_nanousd,
                event.customer_id,
                event.payment_method_id,
                at_ms,
            )
            account = replace(account, open_refill_id=event.refill_id)
        else:
            row = replace(
                _known(self.refill, event.refill_id),
                status=event.status,
                payment_id=event.payment_id,
                failure_code=event.failure_code,
                ended_at_ms=0 if event.status in OPEN_REFILL else at_ms,
            )
            account = _after_refill(account, event)
        self._put("refill", event.refill_id, row)
        self._put("paying_account", event.account_id, account)

    def _promo(self, event: PromoGranted | PromoUsed | PromoExpired, at_ms: int) -> Promo:
        if isinstance(event, PromoGranted):
            _is_new(event.promo_id, self.promo)
            return Promo(
                event.promo_id,
                event.account_id,
                event.amount_nanousd,
                event.amount_nanousd,
                event.expires_at_ms,
                at_ms,
                event.reason,
            )
        before = _known(self.promo, event.promo_id)
        left = before.remaining_nanousd - event.amount_nanousd
        if left < 0:
            raise InternalError("more of a promotional credit would be gone than there was")
        return replace(before, remaining_nanousd=left)


def _after_refill(account: PayingAccount, event: RefillChanged) -> PayingAccount:
    is_open = event.status in OPEN_REFILL
    failed = account.failures + (event.status == "declined")
    return replace(
        account,
        open_refill_id=event.refill_id if is_open else "",
        failures=0 if event.status == "succeeded" else failed,
        pause="needs_action" if event.status == "needs_action" else account.pause,
        next_attempt_at_ms=event.next_attempt_at_ms or account.next_attempt_at_ms,
    )


def _refund_taken(refund: Refund | None) -> tuple[int, int]:
    if refund is None or refund.status in ("failed", "refused"):
        return 0, 0
    return refund.amount_nanousd, refund.wallet_nanousd


def _dispute_taken(dispute: Dispute | None) -> tuple[int, int]:
    if dispute is None or dispute.status == "won":
        return 0, 0
    return dispute.amount_nanousd, dispute.wallet_nanousd


def _known(rows: Mapping[str, RowT], key: str) -> RowT:
    if key not in rows:
        raise InternalError(f"an event names {key}, which its account has not")
    return rows[key]


def _is_new(key: str, rows: Collection[str]) -> None:
    if key in rows:
        raise InternalError(f"{key} was about to be begun twice")
