"""Ledger events to and from protobuf, and as the records of an account's stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from google.protobuf.message import Message

from services.billing.adapters.payments_pb import (
    message_from_payment_event,
    payment_event_from_message,
)
from services.billing.domain.book import Recorded
from services.billing.domain.events import (
    CapWindow,
    Entry,
    GrantChange,
    GrantClosed,
    GrantExpired,
    GrantOpened,
    GrantRenewed,
    GrantResolved,
    GrantWrittenOff,
    KeyCapSet,
    LedgerEvent,
    Quantities,
    ScopeCapSet,
    TransactionPosted,
)
from services.billing.domain.payment_events import PAYMENT_EVENTS
from services.billing.domain.state import Wallet
from services.common.events import EventRecord, UndecodableEvent
from services.common.ids import AccountId, GrantId, KeyId, TransactionId, UsageId, WorkerId, new_id
from services.common.money import TokenKind
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2
from services.common.scopes import Scope


def stream_of(account_id: AccountId) -> str:
    """The stream that holds every event of an account's ledger."""
    return f"wallet:{account_id}"


def record_from_recorded(recorded: Recorded) -> EventRecord:
    """The record of an event; its stream version is the wallet's version."""
    event = recorded.event
    return EventRecord(
        new_id("evt", recorded.occurred_at_ms),
        f"billing.{type(event).__name__}",
        1,
        recorded.occurred_at_ms,
        event.account_id,
        recorded.traceparent,
        message_from_event(event).SerializeToString(),
        stream_of(event.account_id),
        recorded.version,
    )


def balance_record(wallet: Wallet, traceparent: str = "") -> EventRecord:
    """The newest state of a wallet, for the compacted topic."""
    message = ledger_pb2.BalanceState(
        account_id=wallet.account_id,
        posted_nanousd=wallet.posted_nanousd,
        granted_nanousd=wallet.granted_nanousd,
        version=wallet.version,
        updated_at_ms=wallet.updated_at_ms,
    )
    return EventRecord(
        new_id("evt", wallet.updated_at_ms),
        "billing.BalanceState",
        1,
        wallet.updated_at_ms,
        wallet.account_id,
        traceparent,
        message.SerializeToString(),
    )


def message_from_event(event: LedgerEvent) -> Message:
    """The protobuf message of an event."""
    match event:
        case TransactionPosted():
            return transaction_to_pb(event)
        case GrantOpened():
            return ledger_pb2.GrantOpened(
                grant_id=event.grant_id,
                account_id=event.account_id,
                key_id=event.key_id,
                worker_id=event.worker_id,
                amount_nanousd=event.amount_nanousd,
                opened_at_ms=event.opened_at_ms,
                expires_at_ms=event.expires_at_ms,
                request_hash=event.request_hash,
                scopes=event.scopes,
            )
        case GrantRenewed():
            return ledger_pb2.GrantRenewed(
                grant_id=event.grant_id,
                account_id=event.account_id,
                number=event.number,
                added_nanousd=event.added_nanousd,
                expires_at_ms=event.expires_at_ms,
            )
        case GrantClosed():
            return ledger_pb2.GrantClosed(
                grant_id=event.grant_id,
                account_id=event.account_id,
                spent_nanousd=event.spent_nanousd,
                returned_nanousd=event.returned_nanousd,
            )
        case GrantExpired():
            return ledger_pb2.GrantExpired(
                grant_id=event.grant_id,
                account_id=event.account_id,
                unresolved_nanousd=event.unresolved_nanousd,
            )
        case GrantResolved():
            return ledger_pb2.GrantResolved(
                grant_id=event.grant_id,
                account_id=event.account_id,
                settled_nanousd=event.settled_nanousd,
            )
        case GrantWrittenOff():
            return ledger_pb2.GrantWrittenOff(
                grant_id=event.grant_id,
                account_id=event.account_id,
                written_off_nanousd=event.written_off_nanousd,
                reason=event.reason,
            )
        case KeyCapSet():
            return ledger_pb2.KeyCapSet(
                account_id=event.account_id,
                key_id=event.key_id,
                spend_cap_nanousd=event.spend_cap_nanousd,
                window=common_pb2.CapWindow.ValueType(event.window),
                key_version=event.key_version,
                active=event.active,
                member_id=event.member_id,
                team_id=event.team_id,
                model_ids=event.model_ids,
            )
        case ScopeCapSet():
            return _scope_cap_to_pb(event)
        case _ if isinstance(event, PAYMENT_EVENTS):
            return message_from_payment_event(event)
        case _:
            assert_never(event)


def _scope_cap_to_pb(event: ScopeCapSet) -> ledger_pb2.ScopeCapSet:
    return ledger_pb2.ScopeCapSet(
        account_id=event.account_id,
        scope=event.scope,
        spend_cap_nanousd=event.spend_cap_nanousd,
        window=common_pb2.CapWindow.ValueType(event.window),
        version=event.version,
    )


def transaction_to_pb(event: TransactionPosted) -> ledger_pb2.TransactionPosted:
    """The message of a transaction, as it is stored, published and listed."""
    return ledger_pb2.TransactionPosted(
        transaction_id=event.transaction_id,
        account_id=event.account_id,
        idempotency_key=event.idempotency_key,
        kind=event.kind,
        entries=[
            ledger_pb2.LedgerEntry(
                ledger_account=entry.ledger_account, amount_nanousd=entry.amount_nanousd
            )
            for entry in event.entries
        ],
        occurred_at_ms=event.occurred_at_ms,
        booked_at_ms=event.booked_at_ms,
        sequence=event.sequence,
        hash=event.hash,
        reason=event.reason,
        key_id=event.key_id,
        grant_id=event.grant_id,
        usage_id=event.usage_id,
        request_id=event.request_id,
        model_id=event.model_id,
        price_version_id=event.price_version_id,
        overrun=event.overrun,
        quantities=[
            common_pb2.TokenQuantity(kind=common_pb2.TokenKind.ValueType(kind), tokens=tokens)
            for kind, tokens in event.quantities
        ],
        corrects_transaction_id=event.corrects_transaction_id,
        scopes=event.scopes,
        provider_id=event.provider_id,
    )


def event_from_record(record: EventRecord) -> LedgerEvent:
    """The event of a record of an account's stream. Raises UndecodableEvent."""
    message = record.message()
    if isinstance(message, ledger_pb2.TransactionPosted):
        return transaction_from_pb(message)
    if isinstance(message, ledger_pb2.KeyCapSet):
        return _key_cap_set(message)
    if isinstance(message, ledger_pb2.ScopeCapSet):
        return _scope_cap_set(message)
    payment_event = payment_event_from_message(message)
    if payment_event is not None:
        return payment_event
    return _grant_event(message, record.type)


def transaction_from_bytes(raw: bytes) -> TransactionPosted:
    """The transaction of a serialised envelope. Raises UndecodableEvent."""
    return transaction_from_record(EventRecord.from_bytes(raw))


def transaction_from_record(record: EventRecord) -> TransactionPosted:
    """The transaction of a record. Raises UndecodableEvent."""
    message = record.message()
    if not isinstance(message, ledger_pb2.TransactionPosted):
        raise UndecodableEvent("the event is no transaction")
    return transaction_from_pb(message)


def transaction_from_pb(message: ledger_pb2.TransactionPosted) -> TransactionPosted:
    """The transaction of a message. Raises UndecodableEvent."""
    return TransactionPosted(
        TransactionId(message.transaction_id),
        AccountId(message.account_id),
        message.idempotency_key,
        message.kind,
        tuple(Entry(entry.ledger_account, entry.amount_nanousd) for entry in message.entries),
        message.occurred_at_ms,
        message.booked_at_ms,
        message.sequence,
        message.hash,
        message.reason,
        KeyId(message.key_id),
        GrantId(message.grant_id),
        UsageId(message.usage_id),
        message.request_id,
        message.model_id,
        message.price_version_id,
        message.overrun,
        _quantities(message.quantities),
        TransactionId(message.corrects_transaction_id),
        tuple(Scope(scope) for scope in message.scopes),
        message.provider_id,
    )


def _quantities(messages: Iterable[common_pb2.TokenQuantity]) -> Quantities:
    try:
        return tuple((TokenKind(message.kind), message.tokens) for message in messages)
    except ValueError as error:
        raise UndecodableEvent(f"an unknown kind of token: {error}") from error


def _key_cap_set(message: ledger_pb2.KeyCapSet) -> KeyCapSet:
    return KeyCapSet(
        AccountId(message.account_id),
        KeyId(message.key_id),
        message.spend_cap_nanousd if message.HasField("spend_cap_nanousd") else None,
        _window(message.window),
        message.key_version,
        message.active,
        message.member_id,
        message.team_id,
        tuple(message.model_ids),
    )


def _scope_cap_set(message: ledger_pb2.ScopeCapSet) -> ScopeCapSet:
    return ScopeCapSet(
        AccountId(message.account_id),
        Scope(message.scope),
        message.spend_cap_nanousd if message.HasField("spend_cap_nanousd") else None,
        _window(message.window),
        message.version,
    )


def _window(window: int) -> CapWindow:
    try:
        return CapWindow(window)
    except ValueError as error:
        raise UndecodableEvent(f"unknown cap window {window}") from error


def _grant_event(message: Message, event_type: str) -> GrantOpened | GrantChange:
    match message:
        case ledger_pb2.GrantOpened():
            return GrantOpened(
                GrantId(message.grant_id),
                AccountId(message.account_id),
                KeyId(message.key_id),
                WorkerId(message.worker_id),
                message.amount_nanousd,
                message.opened_at_ms,
                message.expires_at_ms,
                message.request_hash,
                tuple(Scope(scope) for scope in message.scopes),
            )
        case ledger_pb2.GrantRenewed():
            return GrantRenewed(
                GrantId(message.grant_id),
                AccountId(message.account_id),
                message.number,
                message.added_nanousd,
                message.expires_at_ms,
            )
        case ledger_pb2.GrantClosed():
            return GrantClosed(
                GrantId(message.grant_id),
                AccountId(message.account_id),
                message.spent_nanousd,
                message.returned_nanousd,
            )
        case ledger_pb2.GrantExpired():
            return GrantExpired(
                GrantId(message.grant_id),
                AccountId(message.account_id),
                message.unresolved_nanousd,
            )
        case ledger_pb2.GrantResolved():
            return GrantResolved(
                GrantId(message.grant_id), AccountId(message.account_id), message.settled_nanousd
            )
        case ledger_pb2.GrantWrittenOff():
            return GrantWrittenOff(
                GrantId(message.grant_id),
                AccountId(message.account_id),
                message.written_off_nanousd,
                message.reason,
            )
        case _:
            raise UndecodableEvent(f"{event_type} is no event of the ledger")
