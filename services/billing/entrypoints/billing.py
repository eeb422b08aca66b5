"""BillingService: the wallet of the principal's account, from protobuf to commands and back."""

# ruff: noqa: ARG002 - gRPC gives every method a request and a context

from __future__ import annotations

from typing import Any

import asyncpg

from services.billing import views
from services.billing.adapters.events_pb import transaction_to_pb
from services.billing.domain.state import Wallet
from services.billing.entrypoints.checks import (
    callers_account,
    checked_amount,
    checked_id,
    checked_text,
    page_size,
    text_from_token,
    token_from_text,
    version_from_token,
)
from services.billing.handlers import CreditAccount, credit_account
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.errors import InvalidArgument
from services.common.grpc import Access, principal
from services.common.ids import AccountId, KeyId
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import ledger_pb2

SERVICE = "mesh.billing.v1.BillingService"
KEYS_MAX = 500
# The usage service tells accounts when a cap is nearly spent.
_READERS = Access(frozenset({"dashboard", "gateway", "cli", "usage"}), "any")
_OPERATOR = Access(frozenset({"cli"}), "operator")
_STAFF = Access(frozenset({"cli", "dashboard"}), "operator")
POLICIES = {
    f"/{SERVICE}/GetBalance": _READERS,
    f"/{SERVICE}/ListTransactions": _READERS,
    f"/{SERVICE}/ListKeySpend": _READERS,
    f"/{SERVICE}/ListScopeSpend": _READERS,
    f"/{SERVICE}/CreditAccount": _OPERATOR,
    f"/{SERVICE}/ListGrants": _STAFF,
}


class BillingServicer(billing_pb2_grpc.BillingServiceServicer):
    """Translates; handlers write and views read."""

    def __init__(self, store: LedgerStore, pool: asyncpg.Pool, clock: Clock) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock

    async def GetBalance(
        self,
        request: billing_pb2.GetBalanceRequest,
        context: Any,  # Any: grpc's own class
    ) -> billing_pb2.Balance:
        return balance_to_pb(await views.balance(self._pool, callers_account()))

    async def CreditAccount(
        self,
        request: billing_pb2.CreditAccountRequest,
        context: Any,  # Any: grpc's own class
    ) -> billing_pb2.CreditAccountResponse:
        command = CreditAccount(
            callers_account(),
            checked_amount("amount_nanousd", request.amount_nanousd, least=1),
            checked_text("reason", request.reason),
            checked_id("idempotency_key", request.idempotency_key),
        )
        credited = await credit_account(self._store, self._clock, command)
        return billing_pb2.CreditAccountResponse(
            transaction=transaction_to_pb(credited.transaction),
            balance=balance_to_pb(credited.wallet),
        )

    async def ListTransactions(
        self,
        request: billing_pb2.ListTransactionsRequest,
        context: Any,  # Any: grpc's own class
    ) -> billing_pb2.ListTransactionsResponse:
        limit = page_size(request.page.page_size)
        records = await views.transactions(
            self._pool,
            callers_account(),
            before_version=version_from_token(request.page.page_token),
            limit=limit + 1,
        )
        page = records[:limit]
        more = token_from_text(str(page[-1].stream_version)) if len(records) > limit else ""
        return billing_pb2.ListTransactionsResponse(
            transactions=[
                ledger_pb2.TransactionPosted.FromString(record.payload) for record in page
            ],
            page=common_pb2.PageResponse(next_page_token=more),
        )

    async def ListKeySpend(
        self,
        request: billing_pb2.ListKeySpendRequest,
        context: Any,  # Any: grpc's own class
    ) -> billing_pb2.ListKeySpendResponse:
        if len(request.key_ids) > KEYS_MAX:
            raise InvalidArgument.of("key_ids", f"are more than {KEYS_MAX}")
        keys = await views.key_spend(
            self._pool,
            callers_account(),
            [KeyId(checked_id("key_ids", key_id)) for key_id in request.key_ids],
            now_ms=self._clock.now_ms(),
        )
        return billing_pb2.ListKeySpendResponse(keys=[key_spend_to_pb(key) for key in keys])

    async def ListScopeSpend(
        self,
        request: billing_pb2.ListScopeSpendRequest,
        context: Any,  # Any: grpc's own class
    ) -> billing_pb2.ListScopeSpendResponse:
        if len(request.scopes) > KEYS_MAX:
            raise InvalidArgument.of("scopes", f"are more than {KEYS_MAX}")
        scopes = await views.scope_spend(
            self._pool,
            callers_account(),
            list(dict.fromkeys(checked_text("scopes", scope) for scope in request.scopes)),
            now_ms=self._clock.now_ms(),
        )
        return billing_pb2.ListScopeSpendResponse(
            scopes=[
                billing_pb2.ScopeSpend(
                    scope=one.scope,
                    spent_nanousd=one.spent_nanousd,
                    granted_nanousd=one.granted_nanousd,
                    spend_cap_nanousd=one.spend_cap_nanousd,
                    window=common_pb2.CapWindow.ValueType(one.window),
                )
                for one in scopes
            ]
        )

    async def ListGrants(
        self,
        request: billing_pb2.ListGrantsRequest,
        context: Any,  # Any: grpc's own class
    ) -> billing_pb2.ListGrantsResponse:
        limit = page_size(request.page.page_size)
        rows = await views.held_grants(
            self._pool,
            AccountId(checked_text("account_id", principal().account_id)),
            unresolved_only=request.unresolved_only,
            after=text_from_token(request.page.page_token),
            limit=limit + 1,
        )
        page = rows[:limit]
        more = token_from_text(page[-1].grant_id) if len(rows) > limit else ""
        return billing_pb2.ListGrantsResponse(
            grants=[grant_to_pb(row) for row in page],
            page=common_pb2.PageResponse(next_page_token=more),
        )


def balance_to_pb(wallet: Wallet) -> billing_pb2.Balance:
    """The message of a wallet."""
    return billing_pb2.Balance(
        account_id=wallet.account_id,
        posted_nanousd=wallet.posted_nanousd,
        granted_nanousd=wallet.granted_nanousd,
        available_nanousd=wallet.available_nanousd,
        updated_at_ms=wallet.updated_at_ms,
        version=wallet.version,
    )


def key_spend_to_pb(key: views.KeySpend) -> billing_pb2.KeySpend:
    """The message of a key's spend."""
    return billing_pb2.KeySpend(
        key_id=key.key_id,
        spent_nanousd=key.spent_nanousd,
        granted_nanousd=key.granted_nanousd,
        spend_cap_nanousd=key.spend_cap_nanousd,
        window=common_pb2.CapWindow.ValueType(key.window),
    )


def grant_to_pb(row: views.GrantRow) -> billing_pb2.GrantInfo:
    """The message of a grant."""
    return billing_pb2.GrantInfo(
        grant_id=row.grant_id,
        account_id=row.account_id,
        key_id=row.key_id,
        worker_id=row.worker_id,
        amount_nanousd=row.amount_nanousd,
        settled_nanousd=row.settled_nanousd,
        returned_nanousd=row.returned_nanousd,
        status=row.status,
        expires_at_ms=row.expires_at_ms,
    )
