"""What the run knows for certain, in plain integers: prices, requests, and what each must cost.

Nothing here is taken from production code: the auditor compares what production did with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

DAY_MS = 86_400_000
LIFETIME, DAY = 1, 2
# Kinds of tokens.
PROMPT, CACHED, COMPLETION, REASONING = 1, 2, 4, 5


@dataclass(frozen=True, slots=True)
class Tariff:
    """Nano-dollars per million tokens by the number of the token kind, and a fee per request."""

    name: str
    rates: Mapping[int, int]
    fee: int = 0

    @property
    def is_free(self) -> bool:
        """True where nothing costs anything."""
        return self.fee == 0 and not any(self.rates.values())

    def cost(self, quantities: Mapping[int, int]) -> int:
        """The exact sum, rounded half up once."""
        exact = sum(
            (Fraction(tokens * self.rates[kind], 1_000_000) for kind, tokens in quantities.items()),
            Fraction(0),
        )
        return self.fee + (exact + Fraction(1, 2)).__floor__()


@dataclass(slots=True)
class Key:
    """A key as its owner set it last; `published` are all versions, by number."""

    key_id: str
    account_id: str
    version: int = 1
    cap: int | None = None
    window: int = LIFETIME
    active: bool = True
    published: dict[int, tuple[int | None, int, bool]] = field(default_factory=dict)
    member: str = ""
    team: str = ""
    # Caps of models under the key.
    models: dict[str, int] = field(default_factory=dict)
    # By version: its member, its team and its capped models; and their caps.
    published_scopes: dict[int, tuple[str, str, tuple[str, ...]]] = field(default_factory=dict)
    published_models: dict[int, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class ScopeOwner:
    """A scope as its owner set it last; `published` are all its caps, by version."""

    account_id: str
    name: str
    cap: int
    window: int
    version: int = 1
    published: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Ask:
    """One request from its caller's point of view, and what became of it."""

    usage_id: str
    key: Key
    tariff: Tariff
    worker: str
    life: int
    key_version: int
    full: int
    bound: int
    started_s: float
    admitted_at_ms: int = 0
    admitted: bool = False
    grant_id: str = ""
    held: int = 0
    # What it must cost, once an event was being written; None before.
    cost: int | None = None
    # `record` returned.
    sure: bool = False
    # `record` raised: nothing may be billed.
    void: bool = False
    # Its machine lost power before anything of it was on disk for certain.
    forgotten: bool = False
    # What it cost above its hold.
    overrun: int = 0

    @property
    def model_id(self) -> str:
        """The model that it is for: one for each tariff."""
        return f"m_{self.tariff.name}"


@dataclass(slots=True)
class Credit:
    """An operator's credit, under one idempotency key."""

    account_id: str
    amount: int
    name: str
    # Booked for certain: the operator was told so.
    sure: bool = False


def day_of(moment_ms: int) -> int:
    """The UTC day."""
    return moment_ms // DAY_MS


def tariff(draw: int, number: int) -> Tariff:
    """Rates of some nano-dollars a token, with fractions, so that rounding shows."""
    base = 500_000 + draw % 4_000_003
    rates = {
        PROMPT: base,
        CACHED: base // 10 + 3,
        COMPLETION: 2 * base + 7,
        REASONING: 2 * base + 7,
    }
    return Tariff(f"pv_{number}", rates, draw % 3 * 5)
