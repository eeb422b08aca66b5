"""What the payment events of an account add up to, each a value that is one row of one table.

Amounts are nano-dollars, moments Unix milliseconds; "" and 0 stand for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from services.billing.domain.payment_events import (
    DisputeStatus,
    RefillStatus,
    RefundStatus,
    TopUpStatus,
)
from services.common.ids import AccountId

OPEN_REFILL = ("started", "processing")
OPEN_TOP_UP = ("started", "open", "processing")


@dataclass(frozen=True, slots=True)
class PayingAccount:
    """Who the account is at the gateway, its saved card, and how it is refilled.

    `pause` is why no refill is tried although it is switched on: needs_action.
    """

    account_id: AccountId
    customer_id: str = ""
    payment_method_id: str = ""
    card_label: str = ""
    refill_enabled: bool = False
    threshold_nanousd: int = 0
    amount_nanousd: int = 0
    day_max_nanousd: int = 0
    month_max_nanousd: int = 0
    pause: str = ""
    failures: int = 0
    next_attempt_at_ms: int = 0
    open_refill_id: str = ""
    switched_off_because: str = ""
    promo_spent_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class TopUp:
    """One checkout."""

    top_up_id: str
    account_id: AccountId
    amount_nanousd: int
    save_card: bool
    requested_by: str
    started_at_ms: int
    status: TopUpStatus = "started"
    session_id: str = ""
    payment_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came in, and what became of it.

    `taken` is what refunds and disputes took back of `received`, those asked for included, and
    `wallet_taken` what of it came out of the wallet.
    """

    payment_id: str
    account_id: AccountId
    received_nanousd: int
    credited_nanousd: int
    top_up_id: str
    refill_id: str
    received_at_ms: int
    taken_nanousd: int = 0
    wallet_taken_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund, asked for by us or made at the gateway itself."""

    refund_id: str
    account_id: AccountId
    payment_id: str
    amount_nanousd: int
    wallet_nanousd: int
    requested_by: str
    since_ms: int
    status: RefundStatus = "requested"
    gateway_refund_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Dispute:
    """One dispute."""

    dispute_id: str
    account_id: AccountId
    payment_id: str
    amount_nanousd: int
    wallet_nanousd: int
    since_ms: int
    status: DisputeStatus = "open"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refill:
    """One automatic charge; what it charges was pinned when it was decided."""

    refill_id: str
    account_id: AccountId
    amount_nanousd: int
    customer_id: str
    payment_method_id: str
    started_at_ms: int
    ended_at_ms: int = 0
    status: RefillStatus = "started"
    payment_id: str = ""
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class Promo:
    """One promotional credit and what is left of it."""

    promo_id: str
    account_id: AccountId
    amount_nanousd: int
    remaining_nanousd: int
    expires_at_ms: int
    granted_at_ms: int
    reason: str


Row = PayingAccount | TopUp | Payment | Refund | Dispute | Refill | Promo
RowT = TypeVar("RowT")
# Each table's name is that of the field of `PaymentBook`; its key is the first field of the class.
ROW_CLASSES: dict[str, type[Row]] = {
    "paying_account": PayingAccount,
    "top_up": TopUp,
    "payment": Payment,
    "refund": Refund,
    "dispute": Dispute,
    "refill": Refill,
    "promo": Promo,
}
