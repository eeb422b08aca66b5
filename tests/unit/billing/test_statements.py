"""Statements and spend history: sums of the journal, to the nano-dollar."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.billing.adapters import statement_pages
from services.billing.domain.events import Entry, TransactionPosted
from services.billing.payments.statements import (
    Month,
    Spend,
    csv_of,
    spend_history,
    statement_of,
)
from services.common.errors import InvalidArgument
from services.common.ids import AccountId, KeyId, TransactionId

ACCOUNT = AccountId("acc_1")


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def posted(sequence: int, kind: str, amount: int, when: str, **facts: str) -> TransactionPosted:
    entries = (Entry("wallet:acc_1", amount), Entry("other", -amount))
    return TransactionPosted(
        TransactionId(f"tx_{sequence}"), ACCOUNT, f"{kind}:{sequence}", kind, entries,
        at(when), at(when), sequence, b"", facts.get("reason", ""),
        key_id=KeyId(facts.get("key", "")), model_id=facts.get("model", ""),
        request_id=facts.get("request", ""), provider_id=facts.get("provider", ""),
    )  # fmt: skip


JOURNAL = [
    posted(1, "top_up", 20_000_000_000, "2026-01-31T23:59:59", reason="payment pi_1"),
    posted(2, "usage", -7, "2026-02-01T00:00:00", key="key_1", model="a/one", request="=1+1"),
    posted(3, "usage", -5, "2026-02-02T10:00:00", key="key_2", model="a/one", provider="far"),
    posted(4, "usage", -11, "2026-02-02T11:00:00", key="key_1", model="b/<two>"),
    posted(5, "reversal", 7, "2026-02-01T00:00:00", key="key_1", model="a/one", reason="wrong"),
    posted(6, "refill", 5_000_000_000, "2026-02-28T23:59:59", reason="payment pi_2"),
    posted(7, "usage", -3, "2026-03-01T00:00:00", key="key_1", model="a/one"),
]


async def journal() -> AsyncIterator[TransactionPosted]:
    for one in JOURNAL:
        yield one


async def test_a_month_closes_where_the_next_one_opens() -> None:
    names = ("2026-01", "2026-02", "2026-03", "2026-04")
    found = [await statement_of(journal(), ACCOUNT, Month.of(name)) for name in names]
    assert [one.opening_nanousd for one in found[1:]] == [one.closing_nanousd for one in found[:-1]]
    assert found[1].opening_nanousd == 20_000_000_000
    assert found[1].closing_nanousd == 24_999_999_984
    assert dict(found[1].kinds) == {
        "Usage": -23, "Corrections": 7, "Automatic refills": 5_000_000_000,
    }  # fmt: skip
    assert dict(found[1].usage) == {"a/one": [12, 2], "b/<two>": [11, 1]}
    assert found[-1].closing_nanousd == sum(
        entry.amount_nanousd for one in JOURNAL for entry in one.entries[:1]
    )


async def test_the_pages_show_exact_sums_and_no_markup_of_others() -> None:
    statement = await statement_of(journal(), ACCOUNT, Month.of("2026-02"))
    page = statement_pages.html(statement, test_mode=True).decode()
    assert "$24.999999984" in page
    assert "b/&lt;two&gt;" in page
    assert "TEST MODE" in page
    assert "TEST MODE" not in statement_pages.html(statement, test_mode=False).decode()
    assert statement_pages.pdf(statement, test_mode=True).startswith(b"%PDF-")


async def test_the_csv_has_every_entry_of_the_month_and_no_formulas() -> None:
    raw = b"".join([part async for part in csv_of(journal(), Month.of("2026-02"))])
    rows = list(csv.DictReader(io.StringIO(raw.decode())))
    assert [row["sequence"] for row in rows] == ["2", "3", "4", "5", "6"]
    assert rows[0]["request_id"] == "'=1+1"
    assert rows[-1]["balance_nanousd"] == "24999999984"


async def test_spending_by_day_provider_model_and_key_sums_to_what_the_wallet_lost() -> None:
    rows = await spend_history(journal(), from_ms=0, to_ms=at("2027-01-01T00:00:00"))
    assert rows == {
        ("2026-02-01", "a", "a/one", "key_1"): Spend(0, -7, 1),
        ("2026-02-02", "far", "a/one", "key_2"): Spend(5, 0, 1),
        ("2026-02-02", "b", "b/<two>", "key_1"): Spend(11, 0, 1),
        ("2026-03-01", "a", "a/one", "key_1"): Spend(3, 0, 1),
    }
    spent = -sum(one.entries[0].amount_nanousd for one in JOURNAL if one.model_id)
    assert sum(one.spent_nanousd for one in rows.values()) == spent


@pytest.mark.parametrize("name", ["2026", "2026-13", "2026-1", "1969-12", "x"])
def test_what_is_no_month_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="month"):
        Month.of(name)
