"""Prices on the wire: `money.Price` to and from `mesh.common.v1.PriceVersion`.

For every service that speaks of prices. Both ways are exact, so a price that went through a message
costs the same to the nano-dollar. Rates and tiers are written in ascending order, which makes the
bytes of a price the same wherever it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from services.common.money import Price, Rate, RateTier, TokenKind
from services.common.pb.mesh.common.v1 import common_pb2


def price_to_pb(price: Price) -> common_pb2.PriceVersion:
    """The message of a price; raises ValueError where a figure does not fit 64 bits."""
    return common_pb2.PriceVersion(
        price_version_id=price.price_version_id,
        model_id=price.model_id,
        valid_from_ms=price.valid_from_ms,
        rates=rates_to_pb(price.rates),
        request_fee_nanousd=price.request_fee_nanousd,
        source=price.source,
    )


class PriceMessages:
    """Messages of prices that are written again and again, each made once. Prices are immutable;
    whoever gets a message must not change it.
    """

    def __init__(self, prices_max: int = 4_096) -> None:
        self._prices_max = prices_max
        # By identity, as a price has no hash; it is kept too, so that its identity stays its own.
        self._known: dict[int, tuple[Price, common_pb2.PriceVersion]] = {}

    def of(self, price: Price) -> common_pb2.PriceVersion:
        """The message of this very price; raises as `price_to_pb` does."""
        found = self._known.get(id(price))
        if found is None:
            if len(self._known) >= self._prices_max:
                self._known.clear()
            found = self._known[id(price)] = (price, price_to_pb(price))
        return found[1]


def price_from_pb(message: common_pb2.PriceVersion) -> Price:
    """The price of a message; raises ValueError as `rates_from_pb` does."""
    return Price(
        price_version_id=message.price_version_id,
        rates=rates_from_pb(message.rates),
        request_fee_nanousd=message.request_fee_nanousd,
        model_id=message.model_id,
        valid_from_ms=message.valid_from_ms,
        source=message.source,
    )


def rates_to_pb(rates: Mapping[TokenKind, Rate]) -> list[common_pb2.Rate]:
    """One message a kind, ascending by kind."""
    return [
        common_pb2.Rate(
            kind=common_pb2.TokenKind.ValueType(kind),
            nanousd_per_million=rate.nanousd_per_million,
            tiers=[
                common_pb2.RateTier(
                    from_prompt_tokens=tier.from_prompt_tokens,
                    nanousd_per_million=tier.nanousd_per_million,
                )
                for tier in rate.tiers
            ],
        )
        for kind, rate in sorted(rates.items())
    ]


def rates_from_pb(messages: Iterable[common_pb2.Rate]) -> dict[TokenKind, Rate]:
    """Rates by kind; ValueError on an unknown kind, a kind given twice or tiers not ascending."""
    rates: dict[TokenKind, Rate] = {}
    for message in messages:
        kind = TokenKind(message.kind)
        if kind in rates:
            raise ValueError(f"two rates for {kind.name.lower()}")
        tiers = tuple(
            RateTier(tier.from_prompt_tokens, tier.nanousd_per_million) for tier in message.tiers
        )
        starts = [tier.from_prompt_tokens for tier in tiers]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError(f"the tiers of {kind.name.lower()} do not ascend")
        rates[kind] = Rate(message.nanousd_per_million, tiers)
    return rates
