"""A month of an account's journal as a statement, and its spending by day, provider, model and key.

Everything is summed from the journal's entries, so a statement's closing balance is the next one's
opening balance, and the sums are equal to the ledger's to the nano-dollar.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.billing.domain.caps import DAY_MS, day_of
from services.billing.domain.corrections import CORRECTIONS, USAGE
from services.billing.domain.events import TransactionPosted
from services.billing.domain.ledger import wallet_change
from services.common.errors import InvalidArgument
from services.common.ids import AccountId
from services.common.money import usd_from_nanousd

SpendKey = tuple[str, str, str, str]
# What people call the kinds of entries.
KIND_NAMES = {
    "usage": "Usage",
    "top_up": "Payments",
    "refill": "Automatic refills",
    "credit": "Credits",
    "promo": "Promotional credit",
    "promo_expired": "Promotional credit that expired",
    "refund": "Refunds",
    "refund_reserved": "Refunds",
    "refund_released": "Refunds that were not made",
    "refund_failed": "Refunds that came back",
    "dispute": "Disputed payments",
    "dispute_won": "Disputes won",
    "reversal": "Corrections",
    "rerate": "Corrections",
}


@dataclass(frozen=True, slots=True)
class Month:
    """A UTC month: its name, and its bounds in Unix milliseconds."""

    name: str
    starts_at_ms: int
    ends_at_ms: int

    @classmethod
    def of(cls, name: str) -> Month:
        """The month of a name such as `2026-01`. Raises InvalidArgument."""
        try:
            first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
            following = first.replace(
                year=first.year + first.month // 12, month=first.month % 12 + 1
            )
        except ValueError as error:
            raise InvalidArgument.of("month", "is not a month such as 2026-01") from error
        if first.strftime("%Y-%m") != name or first.year < 1970:
            raise InvalidArgument.of("month", "is not a month such as 2026-01")
        return cls(name, round(first.timestamp() * 1000), round(following.timestamp() * 1000))


@dataclass(frozen=True, slots=True)
class Line:
    """An entry that is not of usage."""

    booked_at_ms: int
    kind: str
    what: str
    amount_nanousd: int


@dataclass(slots=True)
class Statement:
    """What a month came to, in nano-dollars; `usage` by model: sum and requests."""

    account_id: AccountId
    month: Month
    opening_nanousd: int = 0
    closing_nanousd: int = 0
    entries: int = 0
    kinds: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    usage: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    lines: list[Line] = field(default_factory=list)

    def take(self, posted: TransactionPosted) -> None:
        """Adds the next entry of the journal."""
        change = wallet_change(posted.account_id, posted.entries)
        if posted.booked_at_ms < self.month.starts_at_ms:
            self.opening_nanousd += change
        if posted.booked_at_ms < self.month.ends_at_ms:
            self.closing_nanousd += change
        if not self.month.starts_at_ms <= posted.booked_at_ms < self.month.ends_at_ms:
            return
        self.entries += 1
        self.kinds[KIND_NAMES.get(posted.kind, posted.kind)] += change
        if posted.kind == USAGE:
            sums = self.usage[posted.model_id or "unknown"]
            sums[0] -= change
            sums[1] += 1
        elif change:
            name = KIND_NAMES.get(posted.kind, posted.kind)
            self.lines.append(Line(posted.booked_at_ms, name, posted.reason, change))


async def statement_of(
    journal: AsyncIterator[TransactionPosted], account_id: AccountId, month: Month
) -> Statement:
    """The statement of a month, from the whole journal in its order."""
    statement = Statement(account_id, month)
    async for posted in journal:
        statement.take(posted)
    assert statement.closing_nanousd == statement.opening_nanousd + sum(statement.kinds.values())
    return statement


async def csv_of(journal: AsyncIterator[TransactionPosted], month: Month) -> AsyncIterator[bytes]:
    """Every entry of a month, as CSV in parts, its columns named in the first line."""
    yield _csv_line(
        ("sequence", "booked_at", "occurred_at", "kind", "amount_usd", "amount_nanousd",
         "balance_nanousd", "key_id", "provider_id", "model_id", "request_id", "transaction_id",
         "reason")
    )  # fmt: skip
    balance = 0
    async for posted in journal:
        change = wallet_change(posted.account_id, posted.entries)
        balance += change
        if month.starts_at_ms <= posted.booked_at_ms < month.ends_at_ms:
            yield _csv_line(
                (posted.sequence, iso(posted.booked_at_ms), iso(posted.occurred_at_ms),
                 posted.kind, usd_from_nanousd(change), change, balance, posted.key_id,
                 provider_of(posted), posted.model_id, _inert(posted.request_id),
                 posted.transaction_id, _inert(posted.reason))
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spend:
    """Nano-dollars spent, corrections included; what these changed of it; requests."""

    spent_nanousd: int = 0
    corrected_nanousd: int = 0
    requests: int = 0


async def spend_history(
    journal: AsyncIterator[TransactionPosted], *, from_ms: int, to_ms: int
) -> dict[SpendKey, Spend]:
    """Spending by UTC day of admission, provider, model and key.

    Corrections count where the request counts that they correct.
    """
    found: dict[SpendKey, Spend] = {}
    async for posted in journal:
        if posted.kind != USAGE and posted.kind not in CORRECTIONS:
            continue
        if not posted.model_id or not from_ms <= posted.occurred_at_ms < to_ms:
            continue
        day = iso(day_of(posted.occurred_at_ms) * DAY_MS)[:10]
        key = (day, provider_of(posted), posted.model_id, posted.key_id)
        before, is_usage = found.get(key, Spend()), posted.kind == USAGE
        cost = -wallet_change(posted.account_id, posted.entries)
        found[key] = Spend(
            before.spent_nanousd + cost,
            before.corrected_nanousd + (0 if is_usage else cost),
            before.requests + is_usage,
        )
    return dict(sorted(found.items()))


def provider_of(posted: TransactionPosted) -> str:
    """Who served it; for entries from before they said so, who made the model."""
    return posted.provider_id or posted.model_id.partition("/")[0]


def iso(moment_ms: int) -> str:
    """A moment in UTC, to the second."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def summary(statement: Statement) -> Iterator[tuple[str, int]]:
    """The kinds of entries and their sums, as they are shown."""
    order = list(dict.fromkeys(KIND_NAMES.values()))
    for name in sorted(statement.kinds, key=lambda n: (order.index(n) if n in order else 99, n)):
        yield name, statement.kinds[name]


def _inert(text: str) -> str:
    """A caller's text that no spreadsheet takes for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _csv_line(values: tuple[object, ...]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\r\n").writerow(values)
    return sink.getvalue().encode()
