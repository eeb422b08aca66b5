"""From a message of the ledger's topic to the row it makes; protobuf stops here."""

from __future__ import annotations

from services.common.events import EventRecord, UndecodableEvent
from services.common.kafka import LogMessage
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.usage.domain.ledger_row import LedgerRow, checked
from services.usage.domain.usage import BadUsage

_VERSION_MAX = 1


def ledger_row_from_message(message: LogMessage) -> LedgerRow | None:
    """The row of a posted transaction; None for the ledger's other events, which move no money.

    Raises UndecodableEvent where it is no event or cannot be a row.
    """
    record = EventRecord.from_bytes(message.value)
    wire = record.message()
    if not isinstance(wire, ledger_pb2.TransactionPosted):
        return None
    if record.version > _VERSION_MAX:
        raise UndecodableEvent(f"version {record.version} of {record.type} is newer than ours")
    row = LedgerRow(
        account_id=wire.account_id,
        occurred_at=wire.occurred_at_ms,
        transaction_id=wire.transaction_id,
        sequence=wire.sequence,
        kind=wire.kind,
        idempotency_key=wire.idempotency_key,
        booked_at=wire.booked_at_ms,
        entries_ledger_account=tuple(entry.ledger_account for entry in wire.entries),
        entries_amount_nanousd=tuple(entry.amount_nanousd for entry in wire.entries),
        reason=wire.reason,
        key_id=wire.key_id,
        grant_id=wire.grant_id,
        usage_id=wire.usage_id,
        request_id=wire.request_id,
        model_id=wire.model_id,
        price_version_id=wire.price_version_id,
        overrun=wire.overrun,
        corrects_transaction_id=wire.corrects_transaction_id,
        event_id=record.event_id,
        log_topic=message.topic,
        log_partition=message.partition,
        log_offset=message.offset,
    )
    try:
        return checked(row)
    except BadUsage as error:
        raise UndecodableEvent(error.message) from error
