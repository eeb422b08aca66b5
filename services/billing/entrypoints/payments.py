"""PaymentsService: what a person does about paying, from protobuf to commands and back."""

# ruff: noqa: ARG002 - gRPC gives every method a request and a context

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from services.billing import views
from services.billing.adapters import statement_pages
from services.billing.adapters.events_pb import transaction_from_record
from services.billing.domain.events import TransactionPosted
from services.billing.domain.payment_events import RefillConfigured
from services.billing.domain.payments import TopUpRules
from services.billing.entrypoints import payments_pb
from services.billing.entrypoints.checks import (
    callers_account,
    checked_amount,
    checked_email,
    checked_id,
    checked_text,
    page_size,
    version_from_token,
)
from services.billing.payment_ports import PaymentGateway
from services.billing.payments.handlers import (
    StartTopUp,
    configure_refill,
    receipt_url,
    refill_view,
    start_top_up,
)
from services.billing.payments.statements import Month, csv_of, spend_history, statement_of
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import InvalidArgument, Unavailable
from services.common.grpc import Access, principal
from services.common.ids import AccountId
from services.common.pb.mesh.billing.v1 import payments_pb2, payments_pb2_grpc

SERVICE = "mesh.billing.v1.PaymentsService"
LIST_MAX = 200
PART_BYTES = 64 * 1024
CLOCKS_DIFFER_MS = 3_600_000
_READERS = Access(frozenset({"dashboard", "cli"}), "any")
# A receipt shows who paid, and with which card.
_PEOPLE = Access(frozenset({"dashboard", "cli"}), "user")
_PAYERS = Access(frozenset({"dashboard", "cli"}), "user", "admin")
# What the public API has too.
_RECHARGE_READERS = Access(frozenset({"dashboard", "cli", "gateway"}), "any")
_RECHARGERS = Access(frozenset({"dashboard", "cli", "gateway"}), "user", "admin")
_OPERATOR = Access(frozenset({"cli"}), "operator")
_STAFF = Access(frozenset({"cli", "dashboard"}), "operator")
POLICIES = {
    f"/{SERVICE}/{name}": access
    for access, names in (
        (_READERS, ("GetPaymentSetup", "ListPayments", "GetStatement",
                    "GetSpendHistory", "ListPaymentHistory")),
        (_PEOPLE, ("GetReceipt",)),
        (_RECHARGE_READERS, ("GetRefill",)),
        (_PAYERS, ("StartTopUp",)),
        (_RECHARGERS, ("ConfigureRefill",)),
        (_STAFF, ("GrantPromo",)),
        (_OPERATOR, ("RequestRefund", "ListInbox", "ReplayInbox",
                     "ComparePayments")),
    )
    for name in names
}  # fmt: skip


class PaymentsServicer(payments_pb2_grpc.PaymentsServiceServicer):
    """Translates; handlers write and views read. What operators do is in `payments_operator.py`."""

    def __init__(
        self,
        store: LedgerStore,
        pool: asyncpg.Pool,
        clock: Clock,
        *,
        gateway: PaymentGateway | None,
        rules: TopUpRules,
    ) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock
        self._gateway = gateway
        self._rules = rules

    def gateway(self) -> PaymentGateway:
        """The payment gateway. Raises Unavailable where there is none."""
        if self._gateway is None:
            raise Unavailable("no payment gateway is configured")
        return self._gateway

    @property
    def test_mode(self) -> bool:
        """True where no money moves."""
        return self._gateway is not None and self._gateway.is_test

    async def GetPaymentSetup(
        self,
        request: payments_pb2.GetPaymentSetupRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.GetPaymentSetupResponse:
        return payments_pb2.GetPaymentSetupResponse(
            enabled=self._gateway is not None,
            test_mode=self.test_mode,
            least_nanousd=self._rules.least_nanousd,
            most_nanousd=self._rules.most_nanousd,
        )

    async def StartTopUp(
        self,
        request: payments_pb2.StartTopUpRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.StartTopUpResponse:
        command = StartTopUp(
            callers_account(),
            request.amount_nanousd,
            request.save_card,
            _who(),
            checked_email("receipt_email", request.receipt_email),
        )
        opened = await start_top_up(
            self._store, self.gateway(), self._clock, command=command, rules=self._rules
        )
        return payments_pb2.StartTopUpResponse(
            top_up=payments_pb.top_up(opened.top_up), checkout_url=opened.url
        )

    async def GetReceipt(
        self,
        request: payments_pb2.GetReceiptRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.GetReceiptResponse:
        payment_id = checked_id("payment_id", request.payment_id)
        url = await receipt_url(
            self._store, self._gateway, callers_account(), payment_id=payment_id
        )
        return payments_pb2.GetReceiptResponse(url=url)

    async def ListPaymentHistory(
        self,
        request: payments_pb2.ListPaymentHistoryRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.ListPaymentHistoryResponse:
        limit = page_size(request.page.page_size)
        records = await views.payment_events(
            self._pool,
            callers_account(),
            before_version=version_from_token(request.page.page_token),
            limit=limit + 1,
        )
        return payments_pb.history(records, limit=limit)

    async def ListPayments(
        self,
        request: payments_pb2.ListPaymentsRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.ListPaymentsResponse:
        if request.limit > LIST_MAX:
            raise InvalidArgument.of("limit", f"must be at most {LIST_MAX}")
        book = await self._store.payments_of(callers_account())
        return payments_pb.payments(book, limit=request.limit or 50)

    async def GetRefill(
        self,
        request: payments_pb2.GetRefillRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.GetRefillResponse:
        return payments_pb.refill(await refill_view(self._store, self._clock, callers_account()))

    async def ConfigureRefill(
        self,
        request: payments_pb2.ConfigureRefillRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.ConfigureRefillResponse:
        wanted, account_id = request.settings, callers_account()
        settings = RefillConfigured(
            account_id,
            wanted.enabled,
            checked_amount("threshold_nanousd", wanted.threshold_nanousd, least=0),
            checked_amount("amount_nanousd", wanted.amount_nanousd, least=0),
            checked_amount("day_max_nanousd", wanted.day_max_nanousd, least=0),
            checked_amount("month_max_nanousd", wanted.month_max_nanousd, least=0),
            _who(),
        )
        await configure_refill(self._store, self._clock, settings)
        view = await refill_view(self._store, self._clock, account_id)
        return payments_pb2.ConfigureRefillResponse(refill=payments_pb.refill(view))

    async def GetStatement(
        self,
        request: payments_pb2.GetStatementRequest,
        context: Any,  # Any: grpc's own class
    ) -> AsyncIterator[payments_pb2.GetStatementResponse]:
        month = Month.of(checked_text("month", request.month))
        account_id = callers_account()
        journal = journal_of(self._pool, account_id)
        name = f"mesh-statement-{month.name}{'-TEST-MODE' if self.test_mode else ''}"
        if request.format == payments_pb2.STATEMENT_FORMAT_CSV:
            first = payments_pb2.GetStatementResponse(
                content_type="text/csv; charset=utf-8", file_name=f"{name}.csv"
            )
            yield first
            async for part in _in_parts(csv_of(journal, month)):
                yield payments_pb2.GetStatementResponse(part=part)
            return
        statement = await statement_of(journal, account_id, month)
        match request.format:
            case payments_pb2.STATEMENT_FORMAT_HTML:
                raw = await asyncio.to_thread(
                    statement_pages.html, statement, test_mode=self.test_mode
                )
                kind, suffix = "text/html; charset=utf-8", "html"
            case payments_pb2.STATEMENT_FORMAT_PDF:
                raw = await asyncio.to_thread(
                    statement_pages.pdf, statement, test_mode=self.test_mode
                )
                kind, suffix = "application/pdf", "pdf"
            case _:
                raise InvalidArgument.of("format", "is required")
        yield payments_pb2.GetStatementResponse(content_type=kind, file_name=f"{name}.{suffix}")
        for start in range(0, len(raw), PART_BYTES):
            yield payments_pb2.GetStatementResponse(part=raw[start : start + PART_BYTES])

    async def GetSpendHistory(
        self,
        request: payments_pb2.GetSpendHistoryRequest,
        context: Any,  # Any: grpc's own class
    ) -> payments_pb2.GetSpendHistoryResponse:
        from_ms = checked_amount("from_ms", request.from_ms, least=0)
        to_ms = checked_amount("to_ms", request.to_ms, least=0) or self._clock.now_ms()
        # What was admitted from then on was booked from then on, but for how far clocks differ.
        booked_from_ms = max(0, from_ms - CLOCKS_DIFFER_MS)
        journal = journal_of(self._pool, callers_account(), booked_from_ms=booked_from_ms)
        rows = await spend_history(journal, from_ms=from_ms, to_ms=to_ms)
        return payments_pb2.GetSpendHistoryResponse(
            rows=[
                payments_pb2.SpendRow(
                    day=day,
                    provider_id=provider_id,
                    model_id=model_id,
                    key_id=key_id,
                    spent_nanousd=one.spent_nanousd,
                    corrected_nanousd=one.corrected_nanousd,
                    requests=one.requests,
                )
                for (day, provider_id, model_id, key_id), one in rows.items()
            ],
            spent_nanousd=sum(one.spent_nanousd for one in rows.values()),
        )


async def journal_of(
    pool: asyncpg.Pool, account_id: AccountId, *, booked_from_ms: int = 0
) -> AsyncIterator[TransactionPosted]:
    """An account's transactions booked from then on, in their order. Raises Unavailable."""
    async for record in views.journal(pool, account_id, booked_from_ms=booked_from_ms):
        yield transaction_from_record(record)


async def _in_parts(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    part = bytearray()
    async for line in lines:
        part += line
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


def _who() -> str:
    return principal().user_id or "operator"
