"""What a person or an operator does about payments: one function a command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import (
    CustomerLinked,
    PromoGranted,
    RefillConfigured,
    RefundRequested,
    TopUpStarted,
)
from services.billing.domain.payment_seen import CENT
from services.billing.domain.payment_state import PayingAccount, Refund, TopUp
from services.billing.domain.payments import (
    TopUpRules,
    checked_charge,
    decide_checkout,
    decide_top_up,
)
from services.billing.domain.promos import decide_expiry, decide_grant
from services.billing.domain.refills import RefillState, decide_configuration, refill_state
from services.billing.domain.takings import decide_refund
from services.billing.payment_ports import Checkout, GatewayUnsure, PaymentGateway
from services.billing.payments.work import working_on
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import AppError, Conflict, InvalidArgument, NotFound
from services.common.ids import AccountId, new_id
from services.common.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StartTopUp:
    """A person wants to pay; `requested_by` is the user, and receipts go to `receipt_email`.

    The address is the gateway's to keep: it stands in no event and no table of ours.
    """

    account_id: AccountId
    amount_nanousd: int
    save_card: bool
    requested_by: str
    receipt_email: str = ""


@dataclass(frozen=True, slots=True)
class OpenedTopUp:
    """A top-up and the page on which it is paid."""

    top_up: TopUp
    url: str


async def start_top_up(
    store: LedgerStore,
    gateway: PaymentGateway,
    clock: Clock,
    *,
    command: StartTopUp,
    rules: TopUpRules,
) -> OpenedTopUp:
    """Writes the top-up first, then opens its page.

    Raises InvalidArgument, Conflict, Unavailable: after the last the top-up is there, without a
    page that anybody knows, and ends by itself.
    """
    checked_charge("amount_nanousd", command.amount_nanousd, rules)
    async with working_on(store, clock, command.account_id) as work:
        started = TopUpStarted(
            new_id("top", work.now_ms),
            command.account_id,
            command.amount_nanousd,
            command.save_card,
            command.requested_by,
        )
        work.record(decide_top_up(work.payments, started))
        top_up = work.payments.top_up[started.top_up_id]
        customer_id = work.payments.account(command.account_id).customer_id
    customer_id = customer_id or await _customer(
        store, gateway, clock, account_id=command.account_id
    )
    await _send_receipts(gateway, customer_id, command.receipt_email)
    checkout = await _checkout(gateway, top_up, customer_id)
    await note_checkout(store, clock, checkout)
    return OpenedTopUp(replace(top_up, status="open", session_id=checkout.session_id), checkout.url)


async def _customer(
    store: LedgerStore,
    gateway: PaymentGateway,
    clock: Clock,
    *,
    account_id: AccountId,
) -> str:
    customer_id = await gateway.ensure_customer(account_id)
    async with working_on(store, clock, account_id) as work:
        known = work.payments.account(account_id).customer_id
        if not known:
            work.record([CustomerLinked(account_id, customer_id)])
        return known or customer_id


async def _send_receipts(gateway: PaymentGateway, customer_id: str, email: str) -> None:
    if not email:
        return
    try:
        await gateway.send_receipts_to(customer_id, email)
    except AppError as error:
        # Nobody is kept from paying by an address that the gateway does not take.
        log.warning("receipts_not_addressed", error=error.message)


async def _checkout(gateway: PaymentGateway, top_up: TopUp, customer_id: str) -> Checkout:
    try:
        return await gateway.open_checkout(top_up, customer_id)
    except GatewayUnsure:
        found = await gateway.find_checkout(top_up, customer_id)
        if found is None:
            raise
        return found


async def note_checkout(
    store: LedgerStore, clock: Clock, checkout: Checkout, *, failed: bool = False
) -> None:
    """Writes that a page is open, or how it ended. Raises NotFound, Unavailable."""
    status: Literal["open", "expired", "failed"] = "failed" if failed else "open"
    if checkout.status == "expired":
        status = "expired"
    async with working_on(store, clock, checkout.account_id) as work:
        work.record(
            decide_checkout(
                work.payments,
                checkout.top_up_id,
                status=status,
                session_id=checkout.session_id,
            )
        )


async def receipt_url(
    store: LedgerStore, gateway: PaymentGateway | None, account_id: AccountId, *, payment_id: str
) -> str:
    """Where the receipt of one of the account's payments is shown.

    Raises NotFound where it is no payment of the account or has no receipt, Unavailable.
    """
    book = await store.payments_of(account_id)
    if gateway is not None and payment_id in book.payment:
        found = await gateway.receipt_url(payment_id)
        if found:
            return found
    raise NotFound("there is no receipt of such a payment")


async def configure_refill(
    store: LedgerStore, clock: Clock, wanted: RefillConfigured
) -> PayingAccount:
    """Takes an account's refill settings. Raises InvalidArgument, Conflict without a saved card."""
    async with working_on(store, clock, wanted.account_id) as work:
        work.record(decide_configuration(wanted))
        return work.payments.account(wanted.account_id)


@dataclass(frozen=True, slots=True)
class RefillView:
    """An account's refill settings and where its refill stands."""

    account: PayingAccount
    state: RefillState
    book: PaymentBook


async def refill_view(store: LedgerStore, clock: Clock, account_id: AccountId) -> RefillView:
    """Settings and state as of now. Raises Unavailable."""
    async with store.unit() as unit:
        wallets = await unit.wallets([account_id])
        book = await unit.payments(account_id)
    account = book.account(account_id)
    available = wallets[account_id].available_nanousd if account_id in wallets else 0
    state = refill_state(book, account, available_nanousd=available, now_ms=clock.now_ms())
    return RefillView(account, state, book)


async def request_refund(store: LedgerStore, clock: Clock, request: RefundRequested) -> Refund:
    """Reserves a refund; the worker asks the gateway for it. The same id once more changes nothing.

    Raises InvalidArgument, NotFound, Conflict.
    """
    if request.amount_nanousd < CENT or request.amount_nanousd % CENT:
        raise InvalidArgument.of("amount_nanousd", "must be whole cents, at least one")
    async with working_on(store, clock, request.account_id) as work:
        known = work.payments.refund.get(request.refund_id)
        if known is not None:
            same = (known.payment_id, known.amount_nanousd)
            if same != (request.payment_id, request.amount_nanousd):
                raise Conflict("the idempotency key was used for another refund")
            return known
        available = work.wallet.available_nanousd
        work.record(decide_refund(work.payments, request, available_nanousd=available))
        return work.payments.refund[request.refund_id]


async def grant_promo(store: LedgerStore, clock: Clock, granted: PromoGranted) -> int:
    """Books promotional credit once; the wallet's balance after it, in nano-dollars.

    Raises Conflict, InvalidArgument.
    """
    async with working_on(store, clock, granted.account_id) as work:
        spent = await work.unit.spent(granted.account_id)
        work.record(decide_grant(work.payments, granted, spent_nanousd=spent, now_ms=work.now_ms))
        return work.wallet.posted_nanousd


async def expire_promos(store: LedgerStore, clock: Clock, *, limit: int) -> int:
    """Takes back what is left of credits whose time is over; how many accounts had some."""
    accounts = await store.lapsed_promos(clock.now_ms(), limit)
    for account_id in accounts:
        async with working_on(store, clock, account_id) as work:
            spent = await work.unit.spent(account_id)
            work.record(
                decide_expiry(
                    work.payments,
                    account_id,
                    spent_nanousd=spent,
                    available_nanousd=work.wallet.available_nanousd,
                    now_ms=work.now_ms,
                )
            )
    return len(accounts)
