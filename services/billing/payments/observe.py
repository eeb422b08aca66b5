"""Looks at payments as the gateway has them, and books what that changes here."""

from __future__ import annotations

from dataclasses import replace

from services.billing import metrics
from services.billing.domain.payment_seen import PaymentSeen
from services.billing.domain.payment_state import Refill, Refund, TopUp
from services.billing.domain.payments import decide_seen
from services.billing.domain.refills import RefillRules, decide_charged, decide_given_up, is_stale
from services.billing.domain.takings import decide_refused_refund
from services.billing.payment_ports import (
    Checkout,
    GatewayRefused,
    GatewayUnsure,
    InboxRow,
    PaymentGateway,
)
from services.billing.payments.handlers import note_checkout
from services.billing.payments.work import working_on
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import AppError, NotFound
from services.common.ids import AccountId
from services.common.telemetry import get_logger

log = get_logger(__name__)


class Observer:
    """Fetches the newest state and lets the domain decide. Every method may be repeated at will."""

    def __init__(
        self, store: LedgerStore, gateway: PaymentGateway, clock: Clock, *, rules: RefillRules
    ) -> None:
        self.store = store
        self.gateway = gateway
        self.clock = clock
        self.rules = rules

    async def see(self, seen: PaymentSeen) -> bool:
        """Books what a payment's state changes; True where it changed something.

        Raises NotFound where it is none of ours, Conflict where it cannot be, Unavailable.
        """
        async with working_on(self.store, self.clock, seen.account_id) as work:
            steps = decide_seen(work.payments, seen, now_ms=work.now_ms)
            steps += decide_charged(work.payments, seen, now_ms=work.now_ms, rules=self.rules)
            changed = work.record(steps)
        if changed:
            metrics.PAYMENTS.labels(seen.status).inc()
            log.info("payment_booked", payment_id=seen.payment_id, status=seen.status)
        return changed

    async def look_at_payment(self, payment_id: str) -> bool:
        """Fetches a payment and books it."""
        return await self.see(await self.gateway.payment(payment_id))

    async def look_at_checkout(self, checkout: Checkout) -> None:
        """Books where a checkout stands, its payment included."""
        failed = False
        if checkout.payment_id:
            seen = await self.gateway.payment(checkout.payment_id)
            await self.see(seen)
            # Of an open page a card may be declined, and another one taken. A page that is
            # complete takes no other: a bank account's money did not come.
            failed = checkout.status == "complete" and seen.status in ("failed", "canceled")
        await note_checkout(self.store, self.clock, checkout, failed=failed)

    async def look_at_top_up(self, top_up: TopUp) -> None:
        """Books where a top-up stands of which nothing was heard; one without a page ends."""
        if top_up.payment_id:
            await self.look_at_payment(top_up.payment_id)
            return
        if top_up.session_id:
            checkout = await self.gateway.checkout(top_up.session_id)
        else:
            book = await self.store.payments_of(top_up.account_id)
            customer_id = book.account(top_up.account_id).customer_id
            found = None
            if customer_id:
                found = await self.gateway.find_checkout(top_up, customer_id)
            ended = Checkout("", top_up.account_id, top_up.top_up_id, "expired", "", "")
            checkout = found or ended
        await self.look_at_checkout(checkout)

    async def look_at_notice(self, row: InboxRow) -> None:
        """Does what a notice asks to be looked at. NotFound where it is about nothing of ours."""
        notice = row.notice
        if notice.payment_id:
            await self.look_at_payment(notice.payment_id)
        if notice.type.startswith("checkout.session."):
            checkout = await self.gateway.checkout(notice.object_id)
            await self.look_at_checkout(checkout)
        elif not notice.payment_id:
            raise NotFound("the notice is about no payment")

    async def charge(self, refill: Refill) -> bool:
        """One step of a refill; False where the gateway gave no clear answer and it has to be
        repeated.
        """
        try:
            if refill.payment_id:
                return await self._seen(await self.gateway.payment(refill.payment_id))
            if is_stale(refill, self.clock.now_ms(), self.rules):
                return await self._find_or_give_up(refill)
            return await self._seen(await self.gateway.charge(refill))
        except GatewayRefused as error:
            await self._refuse(refill, error)
            return True
        except GatewayUnsure as error:
            log.warning("refill_unsure", refill_id=refill.refill_id, error=error.message)
        # The gateway answers a failure of its own for ever under the same key, though it may have
        # charged: so we look.
        found = await self.gateway.find_charge(refill)
        return await self._seen(found) if found is not None else False

    async def _seen(self, seen: PaymentSeen) -> bool:
        await self.see(seen)
        return True

    async def _find_or_give_up(self, refill: Refill) -> bool:
        found = await self.gateway.find_charge(refill)
        if found is not None:
            return await self._seen(found)
        async with working_on(self.store, self.clock, refill.account_id) as work:
            work.record(
                decide_given_up(
                    work.payments, refill.refill_id, now_ms=work.now_ms, rules=self.rules
                )
            )
        return True

    async def _refuse(self, refill: Refill, error: GatewayRefused) -> None:
        """The charge was never made and never will be: as if the card had been declined."""
        seen = PaymentSeen(
            "", refill.account_id, "", refill.refill_id, "failed", 0, "usd", 0,
            failure_code=error.extra.get("code", "refused"),
        )  # fmt: skip
        async with working_on(self.store, self.clock, refill.account_id) as work:
            work.record(decide_charged(work.payments, seen, now_ms=work.now_ms, rules=self.rules))

    async def refund(self, refund_id: str, account_id: AccountId) -> bool:
        """Asks for a refund that is reserved; False where it has to be repeated."""
        book = await self.store.payments_of(account_id)
        refund = book.refund.get(refund_id)
        if refund is None or refund.status != "requested":
            return True
        if self.clock.now_ms() - refund.since_ms >= self.rules.give_up_after_ms:
            # Its key may be forgotten there, so it is not asked for again: what is there decides.
            return await self._refund_refused(refund, "the payment gateway gave no answer")
        try:
            await self.gateway.refund(refund)
        except GatewayRefused as error:
            return await self._refund_refused(refund, error.message[:200])
        except GatewayUnsure as error:
            log.warning("refund_unsure", refund_id=refund_id, error=error.message)
        await self.look_at_payment(refund.payment_id)
        book = await self.store.payments_of(account_id)
        return book.refund[refund_id].status != "requested"

    async def _refund_refused(self, refund: Refund, reason: str) -> bool:
        """Lets a reserved refund go, unless it was made after all."""
        await self.look_at_payment(refund.payment_id)
        async with working_on(self.store, self.clock, refund.account_id) as work:
            work.record(decide_refused_refund(work.payments, refund.refund_id, reason))
        return True


def failed(row: InboxRow, error: AppError, *, now_ms: int) -> InboxRow:
    """The row after an attempt that did not succeed: again later, for as long as it takes, or put
    aside for a person where no repetition can help.
    """
    attempts = row.attempts + 1
    text = error.message[:300]
    if isinstance(error, NotFound):
        return replace(row, status="ignored", attempts=attempts, error=text)
    if not error.retryable:
        return replace(row, status="failed", attempts=attempts, error=text)
    pause_ms = min(3_600_000, 1_000 * 2 ** min(attempts, 12))
    return replace(row, attempts=attempts, next_at_ms=now_ms + pause_ms, error=text)
