"""What a seal says, and how a chain of them is broken."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from services.billing.adapters.seals_pb import record_from_seal, seal_from_record
from services.billing.domain.events import (
    GrantClosed,
    GrantExpired,
    GrantOpened,
    GrantResolved,
    GrantWrittenOff,
    TransactionPosted,
)
from services.billing.domain.ledger import Draft, post, transfer, wallet_account
from services.billing.domain.seals import (
    FIGURES,
    HOUR_MS,
    HourFigures,
    LedgerSealed,
    SealChain,
    broken,
    hour_of,
    sealed,
)
from services.billing.domain.state import Wallet
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, WorkerId

ACCOUNT, GRANT = AccountId("acc_1"), GrantId("gr_1")
NAMES = dict(zip(FIGURES, range(1, len(FIGURES) + 1), strict=True))


def posted(kind: str, amount: int, grant_id: str = "") -> TransactionPosted:
    entries = transfer(amount, source=wallet_account(ACCOUNT), target="revenue")
    draft = Draft(TransactionId("tx_1"), ACCOUNT, "key", kind, entries, 1, 1)
    return post(Wallet(ACCOUNT), replace(draft, grant_id=GrantId(grant_id)))


def one_seal() -> LedgerSealed:
    return sealed(SealChain(), HourFigures(**NAMES), hour_start_ms=HOUR_MS, sealed_at_ms=9)


def test_an_hour_is_counted_and_summed_by_what_happened() -> None:
    figures = HourFigures()
    ids = (GRANT, ACCOUNT, KeyId("key_1"), WorkerId("w1"))
    for event in (
        GrantOpened(*ids, 500, 1, 2, b""),
        GrantClosed(GRANT, ACCOUNT, 200, 300),
        GrantExpired(GRANT, ACCOUNT, 500),
        GrantWrittenOff(GRANT, ACCOUNT, 70, "lost"),
        GrantResolved(GRANT, ACCOUNT, 200),
        posted("usage", 40, "gr_1"),
        posted("usage", 2),
        posted("credit", -1_000),
        posted("reversal", -40),
        posted("rerate", 5),
    ):
        figures.count(event)
    assert figures == HourFigures(
        events=10,
        grants_opened=1,
        granted_nanousd=500,
        grants_closed=1,
        returned_nanousd=300,
        grants_expired=1,
        grants_written_off=1,
        written_off_nanousd=70,
        transactions=5,
        wallets_nanousd=1_000 - 42 + 40 - 5,
        usage_booked=2,
        cost_nanousd=42,
        settlements=1,
        settled_nanousd=40,
        corrections=2,
        corrected_nanousd=35,
    )


@pytest.mark.parametrize("name", FIGURES)
def test_the_hash_of_a_seal_covers_every_figure(name: str) -> None:
    seal = one_seal()
    other = replace(seal.figures, **{name: NAMES[name] + 1})
    assert broken(SealChain(), seal) == ""
    assert broken(SealChain(), replace(seal, figures=other))


@pytest.mark.parametrize("name", [f.name for f in fields(LedgerSealed) if f.name != "figures"])
def test_the_hash_of_a_seal_covers_its_place_and_its_times(name: str) -> None:
    seal = one_seal()
    before = getattr(seal, name)
    other = bytes(32) if name == "hash" else before + 1
    assert broken(SealChain(), replace(seal, **{name: other}))  # type: ignore[arg-type]  # by name


def test_a_seal_follows_the_hour_before_without_a_gap() -> None:
    chain = SealChain(1, HOUR_MS, b"h" * 32)
    late = sealed(chain, HourFigures(), hour_start_ms=3 * HOUR_MS, sealed_at_ms=9)
    assert "hour" in broken(chain, late)
    next_one = sealed(chain, HourFigures(), hour_start_ms=2 * HOUR_MS, sealed_at_ms=9)
    assert broken(chain, next_one) == ""


def test_a_seal_is_written_and_read_the_same() -> None:
    seal = one_seal()
    assert seal_from_record(record_from_seal(seal)) == seal


def test_an_hour_begins_where_it_begins() -> None:
    assert hour_of(HOUR_MS - 1) == 0
    assert hour_of(HOUR_MS) == HOUR_MS
