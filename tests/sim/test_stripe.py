"""A few seeds of the payments' simulation and its mutants; `make sim-stripe` runs more."""

from __future__ import annotations

import pytest

from tests.sim.stripe_mutations import STRIPE_MUTANTS
from tests.sim.stripe_run import StripeResult, run_stripe_seed

SEEDS_OF_A_HUNT = 40


@pytest.mark.parametrize("seed", [4, 8, 12])
def test_every_payment_is_credited_once_whatever_the_line_does(seed: int) -> None:
    result = run_stripe_seed(seed)
    assert not result.violation, "\n".join([result.violation, *result.trace])
    assert result.payments
    assert result.forged


def hunt(name: str) -> StripeResult | None:
    """The first seed that catches the mutant."""
    results = (
        run_stripe_seed(seed, STRIPE_MUTANTS[name]()) for seed in range(1, SEEDS_OF_A_HUNT + 1)
    )
    return next((result for result in results if result.violation), None)


@pytest.mark.parametrize("name", ["credited_by_notice", "charge_without_key"])
def test_a_mutant_of_payments_is_caught(name: str) -> None:
    result = hunt(name)
    assert result is not None
    assert result.invariant not in ("defect", "stuck")
