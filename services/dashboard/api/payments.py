"""Paying: top-ups, automatic refills, what was paid and taken back, statements."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import RedirectResponse, StreamingResponse

from services.common.money import nanousd_from_field, usd_from_nanousd
from services.common.pb.mesh.billing.v1 import payments_pb2, payments_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.dashboard.api import payment_models as models
from services.dashboard.api.session import BackendsDep, PathId, Session, SessionDep
from services.dashboard.api.translate import moment
from services.dashboard.ports import Backends

router = APIRouter(tags=["payments"])
STATEMENT_TIMEOUT_S = 120.0
FORMATS = {
    "html": payments_pb2.STATEMENT_FORMAT_HTML,
    "pdf": payments_pb2.STATEMENT_FORMAT_PDF,
    "csv": payments_pb2.STATEMENT_FORMAT_CSV,
}
Month = Annotated[str, Path(pattern=r"^\d{4}-\d{2}$")]


def stub_of(backends: Backends) -> payments_pb2_grpc.PaymentsServiceAsyncStub:
    stub: payments_pb2_grpc.PaymentsServiceAsyncStub = payments_pb2_grpc.PaymentsServiceStub(
        backends.billing_channel.channel()
    )
    return stub


def top_up_out(row: payments_pb2.TopUp) -> models.TopUpOut:
    return models.TopUpOut(
        top_up_id=row.top_up_id,
        amount_usd=usd_from_nanousd(row.amount_nanousd),
        status=row.status,
        started_at=moment(row.started_at_ms) or "",
        payment_id=row.payment_id,
        reason=row.reason,
    )


def reversal_out(
    row: payments_pb2.Refund | payments_pb2.Dispute, reversal_id: str
) -> models.ReversalOut:
    return models.ReversalOut(
        reversal_id=reversal_id,
        kind="refund" if isinstance(row, payments_pb2.Refund) else "dispute",
        payment_id=row.payment_id,
        amount_usd=usd_from_nanousd(row.amount_nanousd),
        status=row.status,
        since=moment(row.since_ms) or "",
        reason=row.reason,
    )


def promo_out(row: payments_pb2.Promo) -> models.PromoOut:
    return models.PromoOut(
        promo_id=row.promo_id,
        amount_usd=usd_from_nanousd(row.amount_nanousd),
        remaining_usd=usd_from_nanousd(row.remaining_nanousd),
        granted_at=moment(row.granted_at_ms) or "",
        expires_at=moment(row.expires_at_ms),
        reason=row.reason,
    )


def refill_out(answer: payments_pb2.GetRefillResponse) -> models.RefillOut:
    settings = answer.settings
    return models.RefillOut(
        enabled=settings.enabled,
        threshold_usd=usd_from_nanousd(settings.threshold_nanousd),
        amount_usd=usd_from_nanousd(settings.amount_nanousd),
        day_max_usd=usd_from_nanousd(settings.day_max_nanousd),
        month_max_usd=usd_from_nanousd(settings.month_max_nanousd),
        state=answer.state,
        until=moment(answer.until_ms),
        card=answer.card_label,
        switched_off_because=answer.switched_off_because,
        charges=[
            models.RefillChargeOut(
                refill_id=one.refill_id,
                amount_usd=usd_from_nanousd(one.amount_nanousd),
                status=one.status,
                started_at=moment(one.started_at_ms) or "",
                failure_code=one.failure_code,
            )
            for one in answer.charges
        ],
    )


@router.get("/payments")
async def list_payments(session: SessionDep, backends: BackendsDep) -> models.PaymentsOut:
    """What was paid, what of it went back, and how one may pay now."""
    stub, channel = stub_of(backends), backends.billing_channel
    setup = await channel.call(
        stub.GetPaymentSetup, payments_pb2.GetPaymentSetupRequest(), principal=session.caller
    )
    found = await channel.call(
        stub.ListPayments, payments_pb2.ListPaymentsRequest(), principal=session.caller
    )
    return models.PaymentsOut(
        enabled=setup.enabled,
        test_mode=setup.test_mode,
        least_usd=usd_from_nanousd(setup.least_nanousd),
        most_usd=usd_from_nanousd(setup.most_nanousd),
        top_ups=[top_up_out(one) for one in found.top_ups],
        payments=[
            models.PaymentOut(
                payment_id=one.payment_id,
                kind=one.kind,
                amount_usd=usd_from_nanousd(one.received_nanousd),
                taken_back_usd=usd_from_nanousd(one.taken_back_nanousd),
                received_at=moment(one.received_at_ms) or "",
            )
            for one in found.payments
        ],
        reversals=[
            *(reversal_out(one, one.refund_id) for one in found.refunds),
            *(reversal_out(one, one.dispute_id) for one in found.disputes),
        ],
        promos=[promo_out(one) for one in found.promos],
    )


@router.get("/payments/{payment_id}/receipt", response_class=RedirectResponse, status_code=303)
async def open_receipt(
    payment_id: PathId, session: SessionDep, backends: BackendsDep
) -> RedirectResponse:
    """Goes to the receipt, which the payment gateway shows."""
    answer = await backends.billing_channel.call(
        stub_of(backends).GetReceipt,
        payments_pb2.GetReceiptRequest(payment_id=payment_id),
        principal=session.caller,
    )
    return RedirectResponse(answer.url, status_code=303)


@router.get("/payment-history")
async def payment_history(
    session: SessionDep,
    backends: BackendsDep,
    *,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    page_token: Annotated[str, Query(max_length=300)] = "",
) -> models.PaymentHistoryOut:
    """Who did what about paying, and what came of it, newest first."""
    page = common_pb2.PageRequest(page_size=page_size, page_token=page_token)
    answer = await backends.billing_channel.call(
        stub_of(backends).ListPaymentHistory,
        payments_pb2.ListPaymentHistoryRequest(page=page),
        principal=session.caller,
    )
    return models.PaymentHistoryOut(
        facts=[
            models.PaymentFactOut(
                at=moment(one.at_ms) or "",
                kind=one.kind,
                status=one.status,
                actor=one.actor,
                subject_id=one.subject_id,
                amount_usd=usd_from_nanousd(one.amount_nanousd),
                detail=one.detail,
                event_id=one.event_id,
            )
            for one in answer.facts
        ],
        next_page_token=answer.page.next_page_token,
    )


@router.post("/top-ups", status_code=201)
async def start_top_up(
    body: models.TopUpIn, session: SessionDep, backends: BackendsDep
) -> models.TopUpStarted:
    """Opens the page on which the amount is paid; the browser goes there."""
    request = payments_pb2.StartTopUpRequest(
        amount_nanousd=nanousd_from_field("amount_usd", body.amount_usd),
        save_card=body.save_card,
        receipt_email=session.principal.email,
    )
    answer = await backends.billing_channel.call(
        stub_of(backends).StartTopUp, request, principal=session.caller
    )
    return models.TopUpStarted(top_up=top_up_out(answer.top_up), checkout_url=answer.checkout_url)


@router.get("/refill")
async def get_refill(session: SessionDep, backends: BackendsDep) -> models.RefillOut:
    """How the balance is refilled, and where that stands."""
    answer = await backends.billing_channel.call(
        stub_of(backends).GetRefill, payments_pb2.GetRefillRequest(), principal=session.caller
    )
    return refill_out(answer)


@router.put("/refill")
async def configure_refill(
    body: models.RefillIn, session: SessionDep, backends: BackendsDep
) -> models.RefillOut:
    """Changes how the balance is refilled."""
    settings = payments_pb2.RefillSettings(
        enabled=body.enabled,
        threshold_nanousd=nanousd_from_field("threshold_usd", body.threshold_usd),
        amount_nanousd=nanousd_from_field("amount_usd", body.amount_usd),
        day_max_nanousd=nanousd_from_field("day_max_usd", body.day_max_usd),
        month_max_nanousd=nanousd_from_field("month_max_usd", body.month_max_usd),
    )
    answer = await backends.billing_channel.call(
        stub_of(backends).ConfigureRefill,
        payments_pb2.ConfigureRefillRequest(settings=settings),
        principal=session.caller,
    )
    return refill_out(answer.refill)


@router.get("/statements/{month}/{form}")
async def get_statement(
    month: Month,
    form: Literal["html", "pdf", "csv"],
    *,
    session: SessionDep,
    backends: BackendsDep,
) -> StreamingResponse:
    """A month of the journal as a file."""
    parts = statement_parts(backends, session, month=month, form=form)
    first = await anext(parts)
    headers = {"content-disposition": f'attachment; filename="{first.file_name}"'}
    return StreamingResponse(
        (one.part async for one in parts), media_type=first.content_type, headers=headers
    )


async def statement_parts(
    backends: Backends, session: Session, *, month: str, form: str
) -> AsyncIterator[payments_pb2.GetStatementResponse]:
    rows = backends.billing_channel.stream(
        stub_of(backends).GetStatement,
        payments_pb2.GetStatementRequest(month=month, format=FORMATS[form]),
        principal=session.caller,
        timeout_s=STATEMENT_TIMEOUT_S,
    )
    async with aclosing(rows):
        async for row in rows:
            yield row
