"""Payments broken on purpose, one way at a time, to see that the simulation notices.

`python -m tests.sim.stripe_mutations` hunts them all and ends with 1 where one survives.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from services.billing.adapters import payments_stripe, stripe_notices
from services.billing.domain import payments, refills, takings
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import RefillStarted
from services.billing.domain.payment_seen import PaymentSeen, Posting, Step
from services.billing.domain.payment_state import Refill
from services.billing.payments import observe
from tests.sim.simulation import Target


def credited_by_notice() -> list[Target]:
    """A payment is booked under a cause of its own each time it is seen."""
    received, number = payments._received, itertools.count()

    def mutated(payment: Any, kind: str, seen: PaymentSeen) -> Iterator[Step]:  # Any: a row
        for step in received(payment, kind, seen):
            if isinstance(step, Posting):
                yield step
                yield replace(step, idempotency_key=f"notice:{next(number)}")
            else:
                yield step

    return [(payments, "_received", mutated)]


def charge_without_key() -> list[Target]:
    """Every try of a refill has a key of its own."""
    call, number = payments_stripe.StripeGateway._call, itertools.count()

    async def mutated(self: Any, method: Any, params: Any, *, key: str) -> Any:  # Any: theirs
        fresh = f"{key}:{next(number)}" if key.startswith("refill:") else key
        return await call(self, method, params, key=fresh)

    return [(payments_stripe.StripeGateway, "_call", mutated)]


def given_up_without_looking() -> list[Target]:
    """A refill of unknown fate is given up, and not looked for."""

    async def find(self: Any, refill: Refill) -> None:  # Any: the gateway
        return None

    return [(payments_stripe.StripeGateway, "find_charge", find)]


def no_ceiling() -> list[Target]:
    """Ceilings count nothing."""
    return [(refills, "_charged", lambda rows, first_day, now_ms: 0)]


def failed_refund_ignored() -> list[Target]:
    """A refund that came back is not booked again."""
    after = takings._refund_after

    def mutated(book: PaymentBook, total: Any, seen: Any) -> Iterator[Step]:  # Any: as there
        return after(book, total, replace(seen, status="made"))

    return [(takings, "_refund_after", mutated)]


def dispute_never_released() -> list[Target]:
    """A dispute that was won stays held."""
    after = takings._dispute_after

    def mutated(book: PaymentBook, total: Any, seen: Any) -> Iterator[Step]:  # Any: as there
        status = "open" if seen.status == "won" else seen.status
        return after(book, total, replace(seen, status=status))

    return [(takings, "_dispute_after", mutated)]


def unsigned_taken() -> list[Target]:
    """Signatures are not checked."""
    return [(stripe_notices, "_is_signed", lambda body, header, secret: True)]


def tax_credited() -> list[Target]:
    """What a payment brought is credited whole, its tax too."""
    received = payments._received

    def mutated(payment: Any, kind: str, seen: PaymentSeen) -> Iterator[Step]:  # Any: a row
        return received(replace(payment, credited_nanousd=payment.received_nanousd), kind, seen)

    return [(payments, "_received", mutated)]


def stale_key_used() -> list[Target]:
    """A charge is asked for again after the gateway forgot its key, without looking."""
    return [(observe, "is_stale", lambda refill, now_ms, rules: False)]


def two_at_once() -> list[Target]:
    """A refill is decided although one is under way."""
    state = refills.refill_state

    def mutated(book: Any, account: Any, **facts: Any) -> Any:  # Any: as there
        return state(book, replace(account, open_refill_id=""), **facts)

    return [(refills, "refill_state", mutated)]


def shortfall_twice() -> list[Target]:
    """The amount that is charged is not the one that was decided."""
    decide = refills.decide_refill

    def mutated(*args: Any, **facts: Any) -> list[Step]:  # Any: as there
        return [
            replace(step, amount_nanousd=10 * step.amount_nanousd)
            if isinstance(step, RefillStarted)
            else step
            for step in decide(*args, **facts)
        ]

    from services.billing.payments import work

    return [(work, "decide_refill", mutated)]


STRIPE_MUTANTS: dict[str, Callable[[], list[Target]]] = {
    one.__name__: one
    for one in (
        credited_by_notice, charge_without_key, given_up_without_looking, stale_key_used,
        no_ceiling, failed_refund_ignored, dispute_never_released, unsigned_taken, two_at_once,
        shortfall_twice, tax_credited,
    )
}  # fmt: skip


def main() -> int:
    """Hunts each with forty seeds."""
    from tests.sim.stripe_run import run_stripe_seed

    caught = 0
    for name, mutate in STRIPE_MUTANTS.items():
        found = None
        for seed in range(1, 41):
            result = run_stripe_seed(seed, mutate())
            if result.violation:
                found = result
                break
        caught += found is not None
        verdict = "SURVIVED" if found is None else f"caught, seed {found.seed}, {found.invariant}"
        print(f"{name:<28} {verdict}", flush=True)
    print(f"sim-stripe mutants: {caught}/{len(STRIPE_MUTANTS)} caught")
    return 0 if caught == len(STRIPE_MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
