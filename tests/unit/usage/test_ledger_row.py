"""A posted transaction makes one row, the ledger's other events none."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.events import UndecodableEvent, record_of
from services.common.kafka import LogMessage
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.topics import LEDGER
from services.usage.adapters.ledger_event import ledger_row_from_message
from tests.contract.events.golden import examples
from tests.unit.usage.builders import START_MS


def message_of(value: bytes) -> LogMessage:
    return LogMessage(LEDGER.name, 2, 7, START_MS, None, value)


def posted(**changes: Any) -> ledger_pb2.TransactionPosted:  # Any: whatever a test cares about
    fields: dict[str, Any] = {
        "transaction_id": "txn_1",
        "account_id": "acc_1",
        "kind": "usage",
        "idempotency_key": "usage:use_1",
        "entries": [
            ledger_pb2.LedgerEntry(ledger_account="wallet:acc_1", amount_nanousd=-5),
            ledger_pb2.LedgerEntry(ledger_account="revenue", amount_nanousd=5),
        ],
        "occurred_at_ms": START_MS,
        "booked_at_ms": START_MS + 9,
        "sequence": 3,
        "usage_id": "use_1",
    }
    return ledger_pb2.TransactionPosted(**(fields | changes))


def bytes_of(event: Any) -> bytes:  # Any: an event of the ledger
    return record_of(event, account_id="acc_1", occurred_at_ms=START_MS).to_bytes()


@pytest.mark.parametrize("example", examples("billing.TransactionPosted"), ids=lambda e: e.number)
def test_every_golden_transaction_makes_the_same_row_twice(example: Any) -> None:
    # Any: pytest passes the example through its ids function untyped.
    row = ledger_row_from_message(message_of(example.envelope))
    assert row is not None
    assert row == ledger_row_from_message(message_of(example.envelope))
    assert sum(row.entries_amount_nanousd) == 0


def test_a_row_says_who_what_and_where_in_the_log() -> None:
    row = ledger_row_from_message(message_of(bytes_of(posted())))
    assert row is not None
    assert (row.account_id, row.transaction_id, row.usage_id) == ("acc_1", "txn_1", "use_1")
    assert row.entries_ledger_account == ("wallet:acc_1", "revenue")
    assert row.entries_amount_nanousd == (-5, 5)
    assert (row.log_topic, row.log_partition, row.log_offset) == (LEDGER.name, 2, 7)


def test_events_that_move_no_money_make_no_row() -> None:
    assert ledger_row_from_message(message_of(bytes_of(ledger_pb2.GrantOpened()))) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"transaction_id": ""}, "transaction_id"),
        ({"account_id": ""}, "account_id"),
        ({"occurred_at_ms": 4}, "occurred_at_ms"),
        ({"booked_at_ms": 4}, "booked_at_ms"),
        ({"entries": [ledger_pb2.LedgerEntry(amount_nanousd=1)]}, "entries"),
    ],
)
def test_an_impossible_transaction_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    # Any: whatever a field of the event holds.
    with pytest.raises(UndecodableEvent, match=field):
        ledger_row_from_message(message_of(bytes_of(posted(**changes))))
