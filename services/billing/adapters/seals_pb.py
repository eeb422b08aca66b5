"""Seals to and from protobuf, and as the records of their one stream."""

from __future__ import annotations

import hashlib

from services.billing.domain.seals import FIGURES, HourFigures, LedgerSealed, SealChain
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import new_id
from services.common.pb.mesh.events.v1 import ledger_pb2

SEALS_STREAM = "seals"
SEAL_TYPE = "billing.LedgerSealed"


def record_from_seal(seal: LedgerSealed) -> EventRecord:
    """The record of a seal. It is of no account."""
    return EventRecord(
        new_id("evt", seal.sealed_at_ms),
        SEAL_TYPE,
        1,
        seal.sealed_at_ms,
        "",
        "",
        seal_to_pb(seal).SerializeToString(),
        SEALS_STREAM,
        seal.sequence,
    )


def seal_to_pb(seal: LedgerSealed) -> ledger_pb2.LedgerSealed:
    """The message of a seal; the figures have the same names on both sides."""
    message = ledger_pb2.LedgerSealed(
        hour_start_ms=seal.hour_start_ms,
        sequence=seal.sequence,
        hash=seal.hash,
        sealed_at_ms=seal.sealed_at_ms,
    )
    for name in FIGURES:
        setattr(message, name, getattr(seal.figures, name))
    return message


def chain_after(chain: SealChain, seal: LedgerSealed, value: bytes) -> SealChain:
    """Where the chain stands after a seal whose serialised envelope is `value`."""
    log_hash = hashlib.sha256(chain.log_hash + value).digest()
    return SealChain(seal.sequence, seal.hour_start_ms, seal.hash, log_hash)


def seal_from_record(record: EventRecord) -> LedgerSealed:
    """The seal of a record. Raises UndecodableEvent."""
    message = record.message()
    if not isinstance(message, ledger_pb2.LedgerSealed):
        raise UndecodableEvent(f"{record.type} is no seal")
    return LedgerSealed(
        message.hour_start_ms,
        message.sequence,
        message.hash,
        message.sealed_at_ms,
        HourFigures(**{name: getattr(message, name) for name in FIGURES}),
    )
