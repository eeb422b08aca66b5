"""Money: integers of nano-dollars, and the one function that turns tokens and a price into a cost.

1 USD = 1,000,000,000 nano-dollars. Rates are nano-dollars per million tokens. Gateway and billing
both call `cost_nanousd`; nothing else in the repository multiplies tokens by a rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import IntEnum

from services.common.errors import InvalidArgument

NANOUSD_PER_USD = 1_000_000_000
TOKENS_PER_RATE = 1_000_000
INT64_MAX = 2**63 - 1


class TokenKind(IntEnum):
    """What a unit of usage is; the numbers are those of `mesh.common.v1.TokenKind`."""

    PROMPT = 1
    CACHED_PROMPT = 2
    CACHE_WRITE = 3
    COMPLETION = 4
    REASONING = 5
    AUDIO_PROMPT = 6
    AUDIO_COMPLETION = 7


PROMPT_KINDS = frozenset(
    {TokenKind.PROMPT, TokenKind.CACHED_PROMPT, TokenKind.CACHE_WRITE, TokenKind.AUDIO_PROMPT}
)

# Where a price names no rate of its own for a kind, these tokens are billed at the rate of that
# other kind.
FALLBACK_KIND: Mapping[TokenKind, TokenKind] = {
    TokenKind.CACHED_PROMPT: TokenKind.PROMPT,
    TokenKind.CACHE_WRITE: TokenKind.PROMPT,
    TokenKind.AUDIO_PROMPT: TokenKind.PROMPT,
    TokenKind.REASONING: TokenKind.COMPLETION,
    TokenKind.AUDIO_COMPLETION: TokenKind.COMPLETION,
}


@dataclass(frozen=True, slots=True)
class RateTier:
    """From this many prompt tokens on, the rate is this (nano-dollars per million tokens)."""

    from_prompt_tokens: int
    nanousd_per_million: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Nano-dollars per million tokens, with ascending tiers by the length of the whole prompt."""

    nanousd_per_million: int
    tiers: tuple[RateTier, ...] = ()

    def at(self, prompt_tokens: int) -> int:
        """The rate for a request whose whole prompt has `prompt_tokens` tokens."""
        rate = self.nanousd_per_million
        for tier in self.tiers:
            if prompt_tokens < tier.from_prompt_tokens:
                break
            rate = tier.nanousd_per_million
        return rate


@dataclass(frozen=True, slots=True)
class Price:
    """One dated price of one model. Immutable; a request pins it when it is admitted."""

    price_version_id: str
    rates: Mapping[TokenKind, Rate]
    request_fee_nanousd: int = 0
    model_id: str = ""
    valid_from_ms: int = 0
    source: str = field(default="", compare=False)

    @property
    def is_free(self) -> bool:
        """True where no request can cost anything."""
        return self.request_fee_nanousd == 0 and all(
            rate.nanousd_per_million == 0
            and all(tier.nanousd_per_million == 0 for tier in rate.tiers)
            for rate in self.rates.values()
        )

    def rate(self, kind: TokenKind, prompt_tokens: int) -> int:
        """Nano-dollars per million tokens of `kind`; 0 where neither it nor its fallback is
        priced.
        """
        own = self.rates.get(kind)
        if own is None and kind in FALLBACK_KIND:
            own = self.rates.get(FALLBACK_KIND[kind])
        return 0 if own is None else own.at(prompt_tokens)


def cost_nanousd(quantities: Mapping[TokenKind, int], price: Price) -> int:
    """The cost of one request: the exact sum of quantity x rate, divided once, rounded half up
    once.

    `quantities` are token counts by kind, disjoint (cached tokens are not counted again as prompt
    tokens). Raises ValueError on a negative quantity.
    """
    prompt_tokens = sum(n for kind, n in quantities.items() if kind in PROMPT_KINDS)
    total = 0
    for kind, tokens in quantities.items():
        if tokens < 0:
            raise ValueError(f"negative quantity of {kind.name.lower()}: {tokens}")
        total += tokens * price.rate(kind, prompt_tokens)
    return price.request_fee_nanousd + (2 * total + TOKENS_PER_RATE) // (2 * TOKENS_PER_RATE)


def tokens_within(
    amount_nanousd: int,
    price: Price,
    *,
    kind: TokenKind,
    beside: Mapping[TokenKind, int],
    most: int,
) -> int:
    """The largest number of tokens of `kind`, up to `most`, that costs with the quantities `beside`
    no more than the amount; 0 where even none does. The inverse of `cost_nanousd`.

    `kind` is one of the answer: tokens of the prompt would change the rates.
    """
    assert kind not in PROMPT_KINDS, f"{kind.name.lower()} is of the prompt"
    prompt_tokens = sum(n for known, n in beside.items() if known in PROMPT_KINDS)
    # The largest sum of quantity x rate that is rounded to the amount or less.
    total = (amount_nanousd - price.request_fee_nanousd) * TOKENS_PER_RATE
    total += (TOKENS_PER_RATE - 1) // 2
    total -= sum(n * price.rate(known, prompt_tokens) for known, n in beside.items())
    rate = price.rate(kind, prompt_tokens)
    if total < 0:
        return 0
    return min(most, total // rate) if rate else most


@dataclass(frozen=True, slots=True)
class CostLine:
    """What the tokens of one kind come to, before the sum of all kinds is divided and rounded."""

    kind: TokenKind
    tokens: int
    nanousd_per_million: int

    @property
    def cost_usd(self) -> str:
        """A decimal string of dollars, exact to a millionth of a nano-dollar."""
        scale = NANOUSD_PER_USD * TOKENS_PER_RATE
        whole, rest = divmod(self.tokens * self.nanousd_per_million, scale)
        return f"{whole}.{f'{rest:015d}'.rstrip('0').ljust(2, '0')}"


def cost_lines(quantities: Mapping[TokenKind, int], price: Price) -> list[CostLine]:
    """How the cost of a request comes about, kind by kind, for people; see `cost_nanousd`."""
    prompt_tokens = sum(n for kind, n in quantities.items() if kind in PROMPT_KINDS)
    return [
        CostLine(kind, tokens, price.rate(kind, prompt_tokens))
        for kind, tokens in quantities.items()
    ]


def nanousd_from_usd(text: str) -> int:
    """Nano-dollars from a decimal string of dollars, for instance "12.5" or "0.000000001".

    Raises ValueError where it is not a finite decimal, is finer than a nano-dollar, or does not fit
    64 bits.
    """
    try:
        amount = Decimal(text.strip()).scaleb(9)
        whole = int(amount)
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise ValueError(f"not an amount in USD: {text!r}") from error
    if amount != whole:
        raise ValueError(f"finer than a nano-dollar: {text!r}")
    if abs(whole) > INT64_MAX:
        raise ValueError(f"amount too large: {text!r}")
    return whole


def nanousd_from_field(field: str, text: str) -> int:
    """`nanousd_from_usd` for what a person gave. Raises InvalidArgument, naming the field."""
    try:
        return nanousd_from_usd(text)
    except ValueError as error:
        raise InvalidArgument.of(field, str(error)) from error


def usd_from_nanousd(amount_nanousd: int, *, places_min: int = 2) -> str:
    """A decimal string of dollars, exact, with at least `places_min` places: 1_500_000_000 ->
    "1.50".
    """
    sign = "-" if amount_nanousd < 0 else ""
    whole, rest = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    digits = f"{rest:09d}".rstrip("0").ljust(places_min, "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
