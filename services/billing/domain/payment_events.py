"""The events of payments. They stand in the account's ledger stream, beside its transactions.

Every field is a text, an integer or a truth value, named as in `mesh/events/v1/payments.proto`; ""
and 0 stand for nothing. Amounts are nano-dollars. Ids made by the payment gateway are kept as they
are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.common.ids import AccountId

TopUpStatus = Literal["started", "open", "processing", "paid", "failed", "expired"]
RefundStatus = Literal["requested", "made", "failed", "refused"]
DisputeStatus = Literal["open", "won", "lost"]
RefillStatus = Literal[
    "started", "processing", "succeeded", "needs_action", "declined", "abandoned"
]


@dataclass(frozen=True, slots=True)
class TopUpStarted:
    """A person asked to pay; nothing was asked of the gateway yet."""

    top_up_id: str
    account_id: AccountId
    amount_nanousd: int
    save_card: bool
    requested_by: str


@dataclass(frozen=True, slots=True)
class TopUpChanged:
    """The checkout opened, or came to its end."""

    top_up_id: str
    account_id: AccountId
    status: TopUpStatus
    session_id: str = ""
    payment_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CustomerLinked:
    """Who the account is at the gateway."""

    account_id: AccountId
    customer_id: str


@dataclass(frozen=True, slots=True)
class CardSaved:
    """What refills charge from now on."""

    account_id: AccountId
    payment_method_id: str
    card_label: str


@dataclass(frozen=True, slots=True)
class PaymentReceived:
    """Money came in; a transaction of its own credits it."""

    payment_id: str
    account_id: AccountId
    received_nanousd: int
    credited_nanousd: int
    top_up_id: str = ""
    refill_id: str = ""


@dataclass(frozen=True, slots=True)
class RefundRequested:
    """An operator asked for a refund; its money is reserved."""

    refund_id: str
    account_id: AccountId
    payment_id: str
    amount_nanousd: int
    wallet_nanousd: int
    reason: str
    requested_by: str


@dataclass(frozen=True, slots=True)
class RefundChanged:
    """The gateway made a refund, failed to, or refused."""

    refund_id: str
    account_id: AccountId
    payment_id: str
    gateway_refund_id: str
    amount_nanousd: int
    wallet_nanousd: int
    status: RefundStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DisputeChanged:
    """A bank took a payment back for the time being, for good, or not after all."""

    dispute_id: str
    account_id: AccountId
    payment_id: str
    amount_nanousd: int
    wallet_nanousd: int
    status: DisputeStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RefillConfigured:
    """By what the account is refilled from here on."""

    account_id: AccountId
    enabled: bool
    threshold_nanousd: int
    amount_nanousd: int
    day_max_nanousd: int
    month_max_nanousd: int
    changed_by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RefillStarted:
    """The command to charge the saved card once."""

    refill_id: str
    account_id: AccountId
    amount_nanousd: int
    customer_id: str
    payment_method_id: str
    available_nanousd: int


@dataclass(frozen=True, slots=True)
class RefillChanged:
    """How a charge goes on, or how it ended."""

    refill_id: str
    account_id: AccountId
    status: RefillStatus
    payment_id: str = ""
    failure_code: str = ""
    next_attempt_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class PromoGranted:
    """Promotional credit; a transaction of its own books it."""

    promo_id: str
    account_id: AccountId
    amount_nanousd: int
    expires_at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class PromoUsed:
    """Part of it was spent."""

    promo_id: str
    account_id: AccountId
    amount_nanousd: int


@dataclass(frozen=True, slots=True)
class PromoCounted:
    """Up to which sum of the account's spending promotional credit was counted."""

    account_id: AccountId
    spent_nanousd: int


@dataclass(frozen=True, slots=True)
class PromoExpired:
    """What was left of it went back."""

    promo_id: str
    account_id: AccountId
    amount_nanousd: int


PAYMENT_EVENTS = (
    TopUpStarted,
    TopUpChanged,
    CustomerLinked,
    CardSaved,
    PaymentReceived,
    RefundRequested,
    RefundChanged,
    DisputeChanged,
    RefillConfigured,
    RefillStarted,
    RefillChanged,
    PromoGranted,
    PromoUsed,
    PromoCounted,
    PromoExpired,
)
PaymentEvent = (
    TopUpStarted
    | TopUpChanged
    | CustomerLinked
    | CardSaved
    | PaymentReceived
    | RefundRequested
    | RefundChanged
    | DisputeChanged
    | RefillConfigured
    | RefillStarted
    | RefillChanged
    | PromoGranted
    | PromoUsed
    | PromoCounted
    | PromoExpired
)
