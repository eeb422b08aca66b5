"""Payments as protobuf messages."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.adapters.events_pb import event_from_record
from services.billing.domain.payment_book import PaymentBook
from services.billing.domain.payment_events import PAYMENT_EVENTS
from services.billing.domain.payment_state import Refund, TopUp
from services.billing.entrypoints.checks import token_from_text
from services.billing.payment_ports import InboxRow
from services.billing.payments.handlers import RefillView
from services.billing.payments.history import fact_of
from services.common.events import EventRecord
from services.common.pb.mesh.billing.v1 import payments_pb2
from services.common.pb.mesh.common.v1 import common_pb2

CHARGES_SHOWN = 20


def top_up(row: TopUp) -> payments_pb2.TopUp:
    """The message of a top-up."""
    return payments_pb2.TopUp(
        top_up_id=row.top_up_id,
        amount_nanousd=row.amount_nanousd,
        status=row.status,
        started_at_ms=row.started_at_ms,
        requested_by=row.requested_by,
        payment_id=row.payment_id,
        save_card=row.save_card,
        reason=row.reason,
    )


def refund(row: Refund) -> payments_pb2.Refund:
    """The message of a refund."""
    return payments_pb2.Refund(
        refund_id=row.refund_id,
        payment_id=row.payment_id,
        amount_nanousd=row.amount_nanousd,
        status=row.status,
        since_ms=row.since_ms,
        reason=row.reason,
    )


def payments(book: PaymentBook, *, limit: int) -> payments_pb2.ListPaymentsResponse:
    """An account's payments, newest first, at most `limit` of each kind."""
    top_ups = sorted(book.top_up.values(), key=lambda one: -one.started_at_ms)
    received = sorted(book.payment.values(), key=lambda one: -one.received_at_ms)
    refunds = sorted(book.refund.values(), key=lambda one: -one.since_ms)
    disputes = sorted(book.dispute.values(), key=lambda one: -one.since_ms)
    promos = sorted(book.promo.values(), key=lambda one: -one.granted_at_ms)
    return payments_pb2.ListPaymentsResponse(
        top_ups=[top_up(one) for one in top_ups[:limit]],
        payments=[
            payments_pb2.Payment(
                payment_id=one.payment_id,
                kind="top_up" if one.top_up_id else "refill",
                received_nanousd=one.received_nanousd,
                credited_nanousd=one.credited_nanousd,
                taken_back_nanousd=one.taken_nanousd,
                received_at_ms=one.received_at_ms,
            )
            for one in received[:limit]
        ],
        refunds=[refund(one) for one in refunds[:limit]],
        disputes=[
            payments_pb2.Dispute(
                dispute_id=one.dispute_id,
                payment_id=one.payment_id,
                amount_nanousd=one.amount_nanousd,
                status=one.status,
                since_ms=one.since_ms,
                reason=one.reason,
            )
            for one in disputes[:limit]
        ],
        promos=[
            payments_pb2.Promo(
                promo_id=one.promo_id,
                amount_nanousd=one.amount_nanousd,
                remaining_nanousd=one.remaining_nanousd,
                expires_at_ms=one.expires_at_ms,
                granted_at_ms=one.granted_at_ms,
                reason=one.reason,
            )
            for one in promos[:limit]
        ],
    )


def history(
    records: Sequence[EventRecord], *, limit: int
) -> payments_pb2.ListPaymentHistoryResponse:
    """Payment events in words, a page of them; one more than the page says that there are more."""
    page = records[:limit]
    more = token_from_text(str(page[-1].stream_version)) if len(records) > limit else ""
    return payments_pb2.ListPaymentHistoryResponse(
        facts=[fact for fact in map(_fact, page) if fact is not None],
        page=common_pb2.PageResponse(next_page_token=more),
    )


def _fact(record: EventRecord) -> payments_pb2.PaymentFact | None:
    event = event_from_record(record)
    fact = fact_of(event) if isinstance(event, PAYMENT_EVENTS) else None
    if fact is None:
        return None
    return payments_pb2.PaymentFact(
        at_ms=record.occurred_at_ms,
        kind=fact.kind,
        status=fact.status,
        actor=fact.actor,
        subject_id=fact.subject_id,
        amount_nanousd=fact.amount_nanousd,
        detail=fact.detail,
        event_id=record.event_id,
    )


def refill(view: RefillView) -> payments_pb2.GetRefillResponse:
    """An account's refill settings, where its refill stands, and its newest charges."""
    account = view.account
    charges = sorted(view.book.refill.values(), key=lambda one: -one.started_at_ms)
    return payments_pb2.GetRefillResponse(
        settings=payments_pb2.RefillSettings(
            enabled=account.refill_enabled,
            threshold_nanousd=account.threshold_nanousd,
            amount_nanousd=account.amount_nanousd,
            day_max_nanousd=account.day_max_nanousd,
            month_max_nanousd=account.month_max_nanousd,
        ),
        state=view.state.name,
        until_ms=view.state.until_ms,
        card_label=account.card_label,
        switched_off_because=account.switched_off_because,
        charges=[
            payments_pb2.RefillCharge(
                refill_id=one.refill_id,
                amount_nanousd=one.amount_nanousd,
                status=one.status,
                started_at_ms=one.started_at_ms,
                ended_at_ms=one.ended_at_ms,
                failure_code=one.failure_code,
            )
            for one in charges[:CHARGES_SHOWN]
        ],
    )


def inbox_row(row: InboxRow) -> payments_pb2.InboxRow:
    """A notice of the gateway and what became of it."""
    return payments_pb2.InboxRow(
        event_id=row.notice.event_id,
        type=row.notice.type,
        payment_id=row.notice.payment_id,
        object_id=row.notice.object_id,
        created_at_ms=row.notice.created_at_ms,
        received_at_ms=row.received_at_ms,
        source=row.source,
        deliveries=row.deliveries,
        status=row.status,
        attempts=row.attempts,
        next_at_ms=row.next_at_ms,
        error=row.error,
    )
