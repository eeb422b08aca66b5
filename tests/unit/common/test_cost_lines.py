"""How the cost of a request is shown, kind by kind."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from services.common.money import Price, Rate, TokenKind, cost_lines, cost_nanousd


def test_the_lines_of_a_cost_are_exact_and_come_to_the_cost() -> None:
    price = Price("pv", {TokenKind.PROMPT: Rate(150_000_001), TokenKind.COMPLETION: Rate(3)})
    quantities = {TokenKind.PROMPT: 7, TokenKind.CACHED_PROMPT: 26, TokenKind.COMPLETION: 1}
    lines = cost_lines(quantities, price)
    assert [line.cost_usd for line in lines] == [
        "0.000001050000007",
        "0.000003900000026",
        "0.000000000000003",
    ]
    exact = sum((Decimal(line.cost_usd) for line in lines), Decimal(0))
    rounded = (exact * 10**9).to_integral_value(ROUND_HALF_UP)
    assert cost_nanousd(quantities, price) == rounded
