"""The row of the ledger in the request log's store: one for each posted transaction."""

from __future__ import annotations

from typing import NamedTuple

from services.usage.domain.row import TIME_MAX_MS, TIME_MIN_MS
from services.usage.domain.usage import BadUsage


class LedgerRow(NamedTuple):
    """The columns of table `ledger_transactions` that the sink writes, in order. Times are Unix
    milliseconds; the amounts of the entries sum to zero.
    """

    account_id: str
    occurred_at: int
    transaction_id: str
    sequence: int
    kind: str
    idempotency_key: str
    booked_at: int
    entries_ledger_account: tuple[str, ...]
    entries_amount_nanousd: tuple[int, ...]
    reason: str
    key_id: str
    grant_id: str
    usage_id: str
    request_id: str
    model_id: str
    price_version_id: str
    overrun: bool
    corrects_transaction_id: str
    event_id: str
    log_topic: str
    log_partition: int
    log_offset: int


# Column names as ClickHouse knows them: the entries are one nested structure.
LEDGER_COLUMNS: tuple[str, ...] = tuple(
    name.replace("entries_", "entries.", 1) for name in LedgerRow._fields
)


def checked(row: LedgerRow) -> LedgerRow:
    """The row, where it is a transaction that can be. Raises BadUsage naming the field that is
    wrong.
    """
    if not row.transaction_id:
        raise BadUsage.of("transaction_id", "is empty")
    if not row.account_id:
        raise BadUsage.of("account_id", "is empty")
    for name, moment in (("occurred_at_ms", row.occurred_at), ("booked_at_ms", row.booked_at)):
        if not TIME_MIN_MS <= moment < TIME_MAX_MS:
            raise BadUsage.of(name, f"is not a plausible time: {moment}")
    if sum(row.entries_amount_nanousd) != 0:
        raise BadUsage.of("entries", "do not sum to zero")
    return row
