"""Balances and request logs: the gRPC adapters and their twins keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.common.errors import InvalidArgument, NotFound
from services.common.grpc import Access, GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.grpc.auth import principal
from services.common.pb.mesh.billing.v1 import billing_pb2, billing_pb2_grpc
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.common.security.tokens import Principal
from services.gateway.account_reads import (
    Balances,
    BalanceView,
    LoggedRequest,
    RequestLog,
    UsageQuery,
)
from services.gateway.adapters.account_reads_grpc import GrpcBalances, GrpcRequestLog
from services.gateway.adapters.account_reads_memory import MemoryBalances, MemoryRequestLog

SECRET = "a-secret-of-the-contract-tests-of-32"
KEY = Principal("key", "acc_1", "usr_1", "key_1")
PERSON = Principal("user", "acc_1", "usr_1", role="viewer")
OTHER = replace(KEY, key_id="key_2")
ROW = LoggedRequest(
    usage_id="use_1", request_id="req_1", key_id="key_1", trace_id="t", route="/v1/x",
    requested_model="m", model_id="m", stream=True, outcome="success", http_status=200,
    error_code="", failure_stage="", finish_reason="stop", received_at_ms=1_000, first_token_ms=5,
    latency_ms=9, prompt_tokens=3, completion_tokens=4, cost_nanousd=7, session_id="s",
    end_user_id="u", tags={"team": "red"},
)  # fmt: skip
ROWS = [
    ROW,
    replace(ROW, usage_id="use_2", request_id="req_2", received_at_ms=2_000, outcome="refused",
            http_status=402, model_id="n", tags={}),
    replace(ROW, usage_id="use_3", request_id="req_3", received_at_ms=3_000, session_id="s2"),
    replace(ROW, usage_id="use_4", request_id="req_4", key_id="key_2", received_at_ms=4_000),
    replace(ROW, usage_id="use_5", request_id="req_5", key_id="key_3", received_at_ms=5_000),
]  # fmt: skip


class Servicer(billing_pb2_grpc.BillingServiceServicer, usage_pb2_grpc.UsageServiceServicer):
    """The wire's other side, over the twins."""

    def __init__(self, balances: MemoryBalances, log: MemoryRequestLog) -> None:
        self._balances = balances
        self._log = log

    # Any: the contexts of the generated bases, which are synchronous.
    async def GetBalance(self, request: Any, context: Any) -> Any:
        view = await self._balances.balance(principal())
        return billing_pb2.Balance(
            posted_nanousd=view.posted_nanousd,
            granted_nanousd=view.granted_nanousd,
            updated_at_ms=view.updated_at_ms,
        )

    async def ListRequests(self, request: Any, context: Any) -> Any:
        wanted = request.filter
        refused = events_pb2.REQUEST_OUTCOME_REFUSED in wanted.outcomes
        page = await self._log.requests(
            principal(),
            UsageQuery(
                since_ms=wanted.since_ms,
                until_ms=wanted.until_ms,
                model_ids=list(wanted.model_ids),
                results=["error" if refused else "success"] if wanted.outcomes else [],
                http_statuses=list(wanted.http_statuses),
                session_ids=list(wanted.session_ids),
                end_user_ids=list(wanted.end_user_ids),
                tags=dict(wanted.tags),
                limit=request.page.page_size,
                offset=request.offset,
                cursor=request.page.page_token,
            ),
        )
        assert request.with_total
        answer = usage_pb2.ListRequestsResponse(
            requests=map(_row_to_pb, page.rows), total=page.total
        )
        answer.page.next_page_token = page.next_cursor
        return answer

    async def GetRequest(self, request: Any, context: Any) -> Any:
        return _row_to_pb(await self._log.request(principal(), request.request_id))


def _row_to_pb(row: LoggedRequest) -> usage_pb2.LoggedRequest:
    facts = {name: getattr(row, name) for name in row.__slots__ if name != "outcome"}
    outcome = events_pb2.RequestOutcome.Value(f"REQUEST_OUTCOME_{row.outcome.upper()}")
    return usage_pb2.LoggedRequest(**facts, outcome=outcome)


@dataclass(slots=True)
class Reads:
    balances: Balances
    log: RequestLog


@pytest.fixture(params=["memory", "grpc"])
async def reads(request: pytest.FixtureRequest) -> AsyncIterator[Reads]:
    balances, log = MemoryBalances(), MemoryRequestLog()
    balances.by_account["acc_1"] = BalanceView(5_000, 2_000, 77)
    log.rows.extend(ROWS)
    log.account_of_key = {"key_1": "acc_1", "key_2": "acc_1", "key_3": "acc_2"}
    if request.param == "memory":
        yield Reads(balances, log)
        return
    access = Access(frozenset({"gateway"}), "any")
    server = GrpcServer(
        listen="127.0.0.1:0",
        verifier=TokenVerifier(SECRET),
        policies={
            "/mesh.billing.v1.BillingService/GetBalance": access,
            "/mesh.usage.v1.UsageService/ListRequests": access,
            "/mesh.usage.v1.UsageService/GetRequest": access,
        },
    )
    # Methods that are not called are left out.
    servicer = Servicer(balances, log)  # type: ignore[abstract]  # see above
    billing_pb2_grpc.add_BillingServiceServicer_to_server(servicer, server.grpc)
    usage_pb2_grpc.add_UsageServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{server.port}", TokenSigner(SECRET, "gateway"))
    yield Reads(GrpcBalances(channel), GrpcRequestLog(channel))
    await channel.close()
    await server.stop(0.1)


async def test_the_balance_is_the_accounts(reads: Reads) -> None:
    assert await reads.balances.balance(KEY) == BalanceView(5_000, 2_000, 77)


async def test_a_key_sees_its_own_requests_newest_first(reads: Reads) -> None:
    page = await reads.log.requests(KEY, UsageQuery())
    assert ([row.request_id for row in page.rows], page.total) == (["req_3", "req_2", "req_1"], 3)
    assert (page.rows[-1], page.next_cursor) == (ROW, "")
    page = await reads.log.requests(KEY, UsageQuery(limit=1, offset=1))
    assert ([row.request_id for row in page.rows], page.total) == (["req_2"], 3)


async def test_pages_follow_one_another_by_their_cursors(reads: Reads) -> None:
    found, cursor = [], ""
    for _ in range(2):
        page = await reads.log.requests(KEY, UsageQuery(limit=2, cursor=cursor))
        found.append([row.request_id for row in page.rows])
        cursor = page.next_cursor
    assert (found, cursor) == ([["req_3", "req_2"], ["req_1"]], "")
    with pytest.raises(InvalidArgument, match="cursor"):
        await reads.log.requests(KEY, UsageQuery(cursor="of nobody"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (UsageQuery(since_ms=2_000), ["req_3", "req_2"]),
        (UsageQuery(until_ms=2_000), ["req_1"]),
        (UsageQuery(model_ids=["n"]), ["req_2"]),
        (UsageQuery(results=["error"]), ["req_2"]),
        (UsageQuery(results=["success"]), ["req_3", "req_1"]),
        (UsageQuery(http_statuses=[402]), ["req_2"]),
        (UsageQuery(session_ids=["s2"]), ["req_3"]),
        (UsageQuery(tags={"team": "red"}), ["req_3", "req_1"]),
        (UsageQuery(end_user_ids=["nobody"]), []),
    ],
)
async def test_filters_narrow(reads: Reads, query: UsageQuery, found: list[str]) -> None:
    page = await reads.log.requests(KEY, query)
    assert [row.request_id for row in page.rows] == found


async def test_one_request_is_found_by_either_id_and_by_its_key_alone(reads: Reads) -> None:
    assert await reads.log.request(KEY, "req_1") == ROW
    assert await reads.log.request(KEY, "use_1") == ROW
    with pytest.raises(NotFound):
        await reads.log.request(OTHER, "req_1")


async def test_a_person_sees_the_requests_of_all_keys_of_the_account(reads: Reads) -> None:
    page = await reads.log.requests(PERSON, UsageQuery())
    found = [row.usage_id for row in page.rows]
    assert (found, page.total) == (["use_4", "use_3", "use_2", "use_1"], 4)
    with pytest.raises(NotFound):
        await reads.log.request(PERSON, "req_5")
