"""What payments need from outside: a payment gateway, and a box for its notices.

Stripe is the first gateway. One for local ways to pay (UPI and the like) is two more classes,
`PaymentGateway` and `NoticeReader`; nothing beyond them and the bootstrap knows which it is. A
gateway takes and gives US dollars in whole cents; one that pays in another currency converts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.billing.domain.payment_seen import PaymentSeen, RefundSeen
from services.billing.domain.payment_state import Refill, Refund, TopUp
from services.common.errors import Conflict, Unavailable
from services.common.ids import AccountId

InboxStatus = Literal["new", "done", "ignored", "failed"]
MovementKind = Literal["payment", "refund", "refund_failed", "dispute", "dispute_returned", "other"]


class GatewayUnsure(Unavailable):
    """The gateway did not answer, or not clearly: what was asked for may have happened."""


class GatewayRefused(Conflict):
    """The gateway said no, for good."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A page on which a person pays. `payment_id` is "" until something was tried."""

    session_id: str
    account_id: AccountId
    top_up_id: str
    status: Literal["open", "complete", "expired"]
    url: str
    payment_id: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What a notice of the gateway says there is to look at; its content is not kept."""

    event_id: str
    type: str
    object_id: str
    payment_id: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A notice in the box, how often it came and what became of it."""

    notice: Notice
    received_at_ms: int
    source: Literal["webhook", "reconciler"]
    deliveries: int = 1
    status: InboxStatus = "new"
    attempts: int = 0
    next_at_ms: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that moved at the gateway, in nano-dollars; positive came in. `fee` is the operator's.

    `payment_id` is "" where it is of no payment; `source_id` is the refund's or the dispute's.
    """

    movement_id: str
    kind: MovementKind
    amount_nanousd: int
    fee_nanousd: int
    payment_id: str
    source_id: str
    created_at_ms: int


class PaymentGateway(Protocol):
    """Every call raises GatewayUnsure, GatewayRefused, NotFound or Unavailable.

    What changes something there bears a key made of our id, so that the same call again has no
    second effect; `find_*` tell whether one of an unknown fate had.
    """

    is_test: bool

    async def ensure_customer(self, account_id: AccountId) -> str:
        """The account's customer id there."""

    async def send_receipts_to(self, customer_id: str, email: str) -> None:
        """From now on receipts of the customer's payments go to this address."""

    async def receipt_url(self, payment_id: str) -> str:
        """Where a payment's receipt is shown; "" where there is none."""

    async def open_checkout(self, top_up: TopUp, customer_id: str) -> Checkout:
        """Makes the page on which a top-up is paid."""

    async def find_checkout(self, top_up: TopUp, customer_id: str) -> Checkout | None:
        """The page of a top-up, where there is one."""

    async def checkout(self, session_id: str) -> Checkout:
        """A page as it is now."""

    async def charge(self, refill: Refill) -> PaymentSeen:
        """Charges a saved card, nobody being present. A declined card is no error."""

    async def find_charge(self, refill: Refill) -> PaymentSeen | None:
        """The charge of a refill, where there is one."""

    async def refund(self, refund: Refund) -> RefundSeen:
        """Gives money back."""

    async def payment(self, payment_id: str) -> PaymentSeen:
        """A payment with its refunds and disputes as they are now. NotFound where it is none of
        ours.
        """

    async def undelivered(self, since_ms: int) -> Sequence[Notice]:
        """Notices that did not reach us, newest first."""

    async def movements(self, from_ms: int, to_ms: int) -> Sequence[Movement]:
        """What moved within this time."""

    async def close(self) -> None:
        """Lets go of connections."""


class NoticeRefused(Exception):
    """A delivery that is not taken; the text says why, for the log."""


class NoticeReader(Protocol):
    """Reads what is delivered at `path`, signed in the header `header`."""

    @property
    def path(self) -> str:
        """Where the gateway delivers to."""

    @property
    def header(self) -> str:
        """The header that bears the signature."""

    def read(self, body: bytes, signature: str, *, now_ms: int) -> Notice | None:
        """The notice in a delivery; None where it is no business of ours. Raises NoticeRefused for
        one that is forged, stale, cut short, or no notice.
        """


class InboxStore(Protocol):
    """The box. Raises Unavailable."""

    async def put(self, row: InboxRow) -> bool:
        """Keeps a notice, once by its id; True where it is new. A repeat is only counted."""

    async def due(self, now_ms: int, limit: int) -> list[InboxRow]:
        """Rows to be worked on, longest waiting first."""

    async def save(self, row: InboxRow) -> None:
        """Writes what became of a row."""

    async def get(self, event_id: str) -> InboxRow | None:
        """One row."""

    async def newest(self, *, status: str, limit: int) -> list[InboxRow]:
        """Rows, newest first; of every status where none is named."""
