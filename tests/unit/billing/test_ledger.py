"""The journal: balance, numbering, and the chain of hashes."""

from __future__ import annotations

from dataclasses import fields, replace
from hashlib import sha256

import pytest

from services.billing.domain.book import Book
from services.billing.domain.events import Entry, TransactionPosted
from services.billing.domain.ledger import Draft, follows, post, same_cause, transfer
from services.billing.domain.state import Wallet
from services.common.errors import InternalError, InvalidArgument
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, UsageId
from services.common.money import INT64_MAX, TokenKind

ACCOUNT = AccountId("acc_1")


def draft(amount: int = 500, **changes: object) -> Draft:
    made = Draft(
        TransactionId("tx_1"),
        ACCOUNT,
        "credit:1",
        "credit",
        transfer(amount, source="promo", target="wallet:acc_1"),
        1_000,
        1_001,
        "welcome",
        KeyId("key"),
        GrantId("gr"),
        UsageId("use"),
        "req",
        "model",
        "pv",
        False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # the caller names fields of Draft


def test_entries_that_do_not_sum_to_zero_are_never_posted() -> None:
    lopsided = (Entry("promo", -500), Entry("wallet:acc_1", 501))
    with pytest.raises(InternalError, match="sum to zero"):
        post(Wallet(ACCOUNT), draft(entries=lopsided))


def test_a_single_entry_is_no_transaction() -> None:
    with pytest.raises(InternalError):
        post(Wallet(ACCOUNT), draft(entries=(Entry("promo", 0),)))


def test_an_unbalanced_event_is_not_folded_either() -> None:
    posted = post(Wallet(ACCOUNT), draft(key_id=KeyId(""), grant_id=GrantId("")))
    lopsided = replace(posted, entries=(Entry("promo", -1), Entry("wallet:acc_1", 2)))
    with pytest.raises(InternalError, match="sum to zero"):
        Book().record(lopsided, occurred_at_ms=1)


def test_transactions_are_numbered_without_gaps_and_chained() -> None:
    first = post(Wallet(ACCOUNT), draft())
    wallet = Wallet(ACCOUNT, sequence=1, hash=first.hash)
    second = post(wallet, draft())
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.hash != second.hash
    assert follows(Wallet(ACCOUNT), first)
    assert follows(wallet, second)
    assert not follows(Wallet(ACCOUNT), second)


def test_another_accounts_journal_is_not_written_to() -> None:
    with pytest.raises(InternalError):
        post(Wallet(AccountId("acc_2")), draft())


def test_a_balance_that_does_not_fit_64_bits_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        post(Wallet(ACCOUNT, posted_nanousd=INT64_MAX), draft(1))


@pytest.mark.parametrize("name", [f.name for f in fields(TransactionPosted) if f.name != "hash"])
def test_the_hash_covers_every_field(name: str) -> None:
    posted = post(Wallet(ACCOUNT), draft())
    before = getattr(posted, name)
    changes = {
        "entries": transfer(501, source="promo", target="wallet:acc_1"),
        "overrun": True,
        "sequence": 2,
        "quantities": ((TokenKind.PROMPT, 1),),
    }
    other = changes.get(name, before + 1 if isinstance(before, int) else f"{before}x")
    assert not follows(Wallet(ACCOUNT), replace(posted, **{name: other}))  # type: ignore[arg-type]  # by name


def test_the_hash_of_an_entry_from_before_there_were_quantities_stays_right() -> None:
    canonical = (
        '["tx_1","acc_1","credit:1","credit",[["promo",-500],["wallet:acc_1",500]],1000,1001,1,'
        '"welcome","key","gr","use","req","model","pv",false]'
    )
    assert post(Wallet(ACCOUNT), draft()).hash == sha256(bytes(32) + canonical.encode()).digest()


def test_quantities_and_the_corrected_transaction_are_covered_apart_and_together() -> None:
    quantities = ((TokenKind.PROMPT, 3), (TokenKind.COMPLETION, 4))
    variants = [
        draft(),
        draft(quantities=quantities),
        draft(quantities=quantities[:1]),
        draft(corrects_transaction_id=TransactionId("tx_0")),
        draft(quantities=quantities, corrects_transaction_id=TransactionId("tx_0")),
    ]
    assert len({post(Wallet(ACCOUNT), one).hash for one in variants}) == len(variants)


def test_fields_cannot_flow_into_each_other_in_the_hash() -> None:
    one = post(Wallet(ACCOUNT), draft(request_id='a","b', model_id="c"))
    other = post(Wallet(ACCOUNT), draft(request_id="a", model_id='b","c'))
    assert one.hash != other.hash


def test_the_same_cause_is_told_from_another_by_amount_and_reason() -> None:
    posted = post(Wallet(ACCOUNT), draft())
    again = draft(transaction_id=TransactionId("tx_2"), booked_at_ms=9)
    assert same_cause(posted, again)
    assert not same_cause(posted, draft(501))
    assert not same_cause(posted, draft(reason="other"))
