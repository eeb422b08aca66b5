"""LedgerService: the books explained, checked and corrected, from protobuf to commands and back."""

# ruff: noqa: ARG002 - gRPC gives every method a request and a context

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import asyncpg

from services.billing.adapters.events_pb import transaction_to_pb
from services.billing.corrections import (
    PostCorrection,
    RerateModel,
    post_correction,
    rerate_model,
)
from services.billing.domain.corrections import Rerating
from services.billing.entrypoints.checks import (
    callers_account,
    checked_amount,
    checked_id,
    checked_text,
)
from services.billing.explain import explain
from services.billing.handlers import write_off_grant
from services.billing.ports import LedgerStore
from services.billing.verify import verify
from services.common.clock import Clock
from services.common.errors import InvalidArgument
from services.common.grpc import Access, principal
from services.common.ids import AccountId, GrantId, TransactionId
from services.common.money import Price
from services.common.pb.mesh.billing.v1 import ledger_pb2, ledger_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pricing_pb import price_from_pb

SERVICE = "mesh.billing.v1.LedgerService"
# A million dollars for a million tokens is a mistake of the price. It also bounds every difference.
RATE_MAX_NANOUSD = 10**15
_OPERATOR = Access(frozenset({"cli"}), "operator")
# What the panel's operators' pages do; the dashboard acts as the operator for staff alone.
_STAFF = Access(frozenset({"cli", "dashboard"}), "operator")
POLICIES = {
    f"/{SERVICE}/{method}": access
    for access, methods in (
        (_OPERATOR, ("Explain", "PostCorrection", "RerateModel")),
        (_STAFF, ("Verify", "WriteOffGrant")),
    )
    for method in methods
}


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Translates; handlers write and views read."""

    def __init__(self, store: LedgerStore, pool: asyncpg.Pool, clock: Clock) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock

    async def Explain(
        self,
        request: ledger_pb2.ExplainRequest,
        context: Any,  # Any: grpc's own class
    ) -> AsyncIterator[ledger_pb2.ExplainResponse]:
        at_ms = checked_amount("at_ms", request.at_ms, least=0) or self._clock.now_ms()
        async for one in explain(self._pool, callers_account(), at_ms=at_ms):
            yield ledger_pb2.ExplainResponse(
                transaction=transaction_to_pb(one.transaction),
                amount_nanousd=one.change_nanousd,
                balance_nanousd=one.balance_nanousd,
            )

    async def Verify(
        self,
        request: ledger_pb2.VerifyRequest,
        context: Any,  # Any: grpc's own class
    ) -> ledger_pb2.VerifyResponse:
        verified = await verify(self._pool, _account())
        return ledger_pb2.VerifyResponse(
            accounts=verified.accounts,
            events=verified.events,
            transactions=verified.transactions,
            seals=verified.seals,
            findings=[
                ledger_pb2.Finding(account_id=finding.account_id, what=finding.what)
                for finding in verified.findings
            ],
        )

    async def PostCorrection(
        self,
        request: ledger_pb2.PostCorrectionRequest,
        context: Any,  # Any: grpc's own class
    ) -> ledger_pb2.PostCorrectionResponse:
        command = PostCorrection(
            TransactionId(checked_id("transaction_id", request.transaction_id)),
            _reason(request.reason),
            _account(),
        )
        posted = await post_correction(self._store, self._clock, command)
        return ledger_pb2.PostCorrectionResponse(transaction=transaction_to_pb(posted))

    async def RerateModel(
        self,
        request: ledger_pb2.RerateModelRequest,
        context: Any,  # Any: grpc's own class
    ) -> AsyncIterator[ledger_pb2.RerateModelResponse]:
        command = rerate_from_request(request, _account())
        async with aclosing(rerate_model(self._store, self._clock, command)) as results:
            async for result in results:
                yield rerating_to_pb(result)

    async def WriteOffGrant(
        self,
        request: ledger_pb2.WriteOffGrantRequest,
        context: Any,  # Any: grpc's own class
    ) -> ledger_pb2.WriteOffGrantResponse:
        grant_id = GrantId(checked_id("grant_id", request.grant_id))
        reason = _reason(request.reason)
        grant = await write_off_grant(self._store, self._clock, grant_id, reason=reason)
        # Before it was written off nothing can have come back: only a close returns money.
        return ledger_pb2.WriteOffGrantResponse(
            account_id=grant.account_id, written_off_nanousd=grant.returned_nanousd
        )


def rerate_from_request(
    request: ledger_pb2.RerateModelRequest, account_id: AccountId
) -> RerateModel:
    """The command. Raises InvalidArgument."""
    price = _price(request.correct_price)
    model_id = checked_id("model_id", request.model_id)
    wrong = checked_id("wrong_price_version_id", request.wrong_price_version_id)
    if price.model_id not in ("", model_id):
        raise InvalidArgument.of("correct_price.model_id", "is another model")
    if price.price_version_id == wrong:
        raise InvalidArgument.of("correct_price.price_version_id", "is the wrong one")
    return RerateModel(model_id, wrong, price, request.dry_run, account_id)


def rerating_to_pb(result: Rerating) -> ledger_pb2.RerateModelResponse:
    """The message of a usage transaction that was rated again."""
    usage = result.usage
    return ledger_pb2.RerateModelResponse(
        account_id=usage.account_id,
        usage_transaction_id=usage.transaction_id,
        request_id=usage.request_id,
        booked_nanousd=result.booked_nanousd,
        correct_nanousd=result.correct_nanousd,
        difference_nanousd=result.booked_nanousd - result.correct_nanousd,
        transaction_id=result.posted.transaction_id if result.posted else "",
        problem=result.problem,
    )


def _price(message: common_pb2.PriceVersion) -> Price:
    checked_id("correct_price.price_version_id", message.price_version_id)
    if ":" in message.price_version_id:
        raise InvalidArgument.of("correct_price.price_version_id", "contains a colon")
    try:
        price = price_from_pb(message)
    except ValueError as error:
        raise InvalidArgument.of("correct_price.rates", str(error)) from error
    figures = [price.request_fee_nanousd]
    for rate in price.rates.values():
        figures += [rate.nanousd_per_million, *(t.nanousd_per_million for t in rate.tiers)]
    if not all(0 <= figure <= RATE_MAX_NANOUSD for figure in figures):
        raise InvalidArgument.of("correct_price", f"figures are 0 to {RATE_MAX_NANOUSD}")
    if not price.rates and not price.request_fee_nanousd:
        raise InvalidArgument.of("correct_price.rates", "are required")
    return price


def _account() -> AccountId:
    """The account that the operator named, or none."""
    return AccountId(checked_text("account_id", principal().account_id))


def _reason(text: str) -> str:
    """Required: whoever reads the journal later is to know why."""
    if not text.strip():
        raise InvalidArgument.of("reason", "is required")
    return checked_text("reason", text)
