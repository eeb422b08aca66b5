"""The part of PaymentsService that is for operators: refunds, promotional credit, the inbox."""

# ruff: noqa: ARG002 - gRPC gives every method a request and a context

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg

from services.billing.domain.payment_events import PromoGranted, RefundRequested
from services.billing.domain.payments import TopUpRules
from services.billing.entrypoints import payments_pb
from services.billing.entrypoints.checks import (
    callers_account,
    checked_amount,
    checked_id,
    checked_text,
)
from services.billing.entrypoints.payments import LIST_MAX, PaymentsServicer
from services.billing.payment_ports import InboxStore, PaymentGateway
from services.billing.payments.handlers import grant_promo, request_refund
from services.billing.payments.reconcile import DAY_MS, Reconciler
from services.billing.payments.workers import Inbox
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import InvalidArgument, NotFound, Unavailable
from services.common.ids import AccountId
from services.common.pb.mesh.billing.v1 import payments_pb2

DAYS_MAX = 400
_STATUSES = ("", "new", "done", "ignored", "failed")


class OperatorPaymentsServicer(PaymentsServicer):
    """The whole service. Without a gateway there is an empty inbox and nothing to compare."""

    def __init__(
        self,
        store: LedgerStore,
        pool: asyncpg.Pool,
        clock: Clock,
        *,
        gateway: PaymentGateway | None,
        rules: TopUpRules,
        box: InboxStore,
        inbox: Inbox | None,
        reconciler: Reconciler | None,
    ) -> None:
        super().__init__(store, pool, clock, gateway=gateway, rules=rules)
        self._box = box
        self._inbox = inbox
        self._reconciler = reconciler

    async def RequestRefund(
        self,
        request: payments_pb2.RequestRefundRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.RequestRefundResponse:
        self.gateway()
        account_id = callers_account()
        payment_id = checked_id("payment_id", request.payment_id)
        amount = checked_amount("amount_nanousd", request.amount_nanousd, least=0)
        if not amount:
            book = await self._store.payments_of(account_id)
            payment = book.payment.get(payment_id)
            if payment is None:
                raise NotFound("the account has no such payment")
            amount = payment.received_nanousd - payment.taken_nanousd
        key = checked_id("idempotency_key", request.idempotency_key)
        refund_id = _id_of("rfn", account_id, key)
        command = RefundRequested(
            refund_id,
            account_id,
            payment_id,
            amount,
            0,
            checked_text("reason", request.reason),
            "operator",
        )
        refund = await request_refund(self._store, self._clock, command)
        return payments_pb2.RequestRefundResponse(refund=payments_pb.refund(refund))

    async def GrantPromo(
        self,
        request: payments_pb2.GrantPromoRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.GrantPromoResponse:
        account_id = callers_account()
        granted = PromoGranted(
            _id_of("prm", account_id, checked_id("idempotency_key", request.idempotency_key)),
            account_id,
            checked_amount("amount_nanousd", request.amount_nanousd, least=1),
            checked_amount("expires_at_ms", request.expires_at_ms, least=0),
            checked_text("reason", request.reason),
        )
        posted = await grant_promo(self._store, self._clock, granted)
        return payments_pb2.GrantPromoResponse(posted_nanousd=posted)

    async def ListInbox(
        self,
        request: payments_pb2.ListInboxRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.ListInboxResponse:
        if request.event_id:
            row = await self._box.get(checked_id("event_id", request.event_id))
            if row is None:
                raise NotFound("there is no such notice")
            return payments_pb2.ListInboxResponse(rows=[payments_pb.inbox_row(row)])
        if request.status not in _STATUSES:
            raise InvalidArgument.of("status", f"must be one of {', '.join(_STATUSES[1:])}")
        if request.limit > LIST_MAX:
            raise InvalidArgument.of("limit", f"must be at most {LIST_MAX}")
        rows = await self._box.newest(status=request.status, limit=request.limit or 50)
        return payments_pb2.ListInboxResponse(rows=[payments_pb.inbox_row(row) for row in rows])

    async def ReplayInbox(
        self,
        request: payments_pb2.ReplayInboxRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.ReplayInboxResponse:
        if self._inbox is None:
            raise Unavailable("no payment gateway is configured")
        row = await self._inbox.replay(checked_id("event_id", request.event_id))
        if row is None:
            raise NotFound("there is no such notice")
        return payments_pb2.ReplayInboxResponse(row=payments_pb.inbox_row(row))

    async def ComparePayments(
        self,
        request: payments_pb2.ComparePaymentsRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.ComparePaymentsResponse:
        if self._reconciler is None:
            raise Unavailable("no payment gateway is configured")
        if request.days > DAYS_MAX:
            raise InvalidArgument.of("days", f"must be at most {DAYS_MAX}")
        now_ms = self._clock.now_ms()
        from_ms = now_ms - (request.days or 7) * DAY_MS
        compared = await self._reconciler.compare(from_ms, now_ms)
        return payments_pb2.ComparePaymentsResponse(
            movements=compared.movements,
            foreign=compared.foreign,
            moved_nanousd=compared.moved_nanousd,
            fees_nanousd=compared.fees_nanousd,
            repaired=compared.repaired,
            findings=compared.findings,
        )


def _id_of(prefix: str, account_id: AccountId, key: str) -> str:
    """An id made of the caller's key, so that the same call again names the same thing."""
    digest = hashlib.sha256(f"{account_id}:{key}".encode()).hexdigest()
    return f"{prefix}_{digest[:26]}"
