"""The whole service on loopback: events in, gRPC answers out, a real chDB between."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from services.common.config import DEVELOPMENT_SECRET, HostPort
from services.common.errors import (
    Forbidden,
    InvalidArgument,
    NotFound,
    RateLimitExceeded,
    Unavailable,
)
from services.common.events import record_of
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.kafka.memory import MemoryLog, MemoryProducer, MemorySource
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import content_pb2 as events_content_pb2
from services.common.pb.mesh.events.v1 import usage_pb2 as events_pb2
from services.common.pb.mesh.usage.v1 import (
    content_pb2,
    content_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from services.common.topics import CONTENT, LEDGER, USAGE, USAGE_DEAD
from services.usage.bootstrap import Service, build
from services.usage.config import UsageSettings
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually, eventually_async, running
from tests.unit.usage.builders import START_MS, envelope, usage

USER = Principal("user", "acc_1", "usr_1", role="viewer")
OPERATOR = Principal("operator", "")


@dataclass(slots=True)
class Running:
    """A started service, its log, and a client."""

    service: Service
    log: MemoryLog
    channel: GrpcChannel
    stub: usage_pb2_grpc.UsageServiceStub

    # Any: whatever fields of the event a test cares about.
    def record(
        self, number: int, account_id: str = "acc_1", key_id: str = "key_1", **changes: Any
    ) -> str:
        """Writes the usage event of one request; returns its usage id."""
        event = usage(
            usage_id=f"use_{number}",
            request_id=f"req_{number}",
            account_id=account_id,
            key_id=key_id,
            received_at_ms=START_MS + number,
            **changes,
        )
        self.log.append(USAGE.name, account_id.encode(), envelope(event))
        return event.usage_id

    async def listed(self, principal: Principal = USER) -> list[str]:
        """The usage ids that the principal sees, newest first."""
        answer = await self.channel.call(
            self.stub.ListRequests, usage_pb2.ListRequestsRequest(), principal=principal
        )
        return [request.usage_id for request in answer.requests]


@asynccontextmanager
async def served(dsn: str, database: str, *, service: str = "dashboard") -> AsyncIterator[Running]:
    """Runs the service's components; `service` is who calls."""
    log = MemoryLog()
    settings = UsageSettings(
        clickhouse_dsn=SecretStr(dsn),
        clickhouse_database=database,
        grpc_listen=HostPort("127.0.0.1:0"),
        ops_listen=HostPort("127.0.0.1:0"),
        sink_linger_ms=5,
        content_stored=True,
        tail_queue_max=50,
    )
    source = MemorySource(log, topic=USAGE, group="log")
    built = build(
        settings,
        source=source,
        ledger_source=MemorySource(log, topic=LEDGER, group="usage-test-ledger"),
        content_source=MemorySource(log, topic=CONTENT, group="usage-test-content"),
        producer=MemoryProducer(log),
    )
    async with AsyncExitStack() as stack:
        for component in built.components:
            if component.start is not None:
                await component.start()
            if component.stop is not None:
                stack.push_async_callback(component.stop)
            if component.run is not None:
                await stack.enter_async_context(running(component.run))
        signer = TokenSigner(DEVELOPMENT_SECRET, service)
        channel = GrpcChannel(f"127.0.0.1:{built.server.port}", signer, default_timeout_s=20)
        stack.push_async_callback(channel.close)
        stub = usage_pb2_grpc.UsageServiceStub(channel.channel())
        yield Running(built, log, channel, stub)


@pytest.fixture
async def usage_service(chdb_dsn: str, new_database: str) -> AsyncIterator[Running]:
    async with served(chdb_dsn, new_database) as up:
        await eventually(lambda: not up.service.ops.not_ready())
        yield up


async def test_a_request_is_listed_got_and_summed_soon_after_its_event(
    usage_service: Running,
) -> None:
    up = usage_service
    ids = [up.record(number) for number in range(3)]
    await eventually_async(lambda: _has(up, 3))
    assert await up.listed() == ids[::-1]
    call = up.channel.call
    got = await call(
        up.stub.GetRequest, usage_pb2.GetRequestRequest(request_id="req_1"), principal=USER
    )
    assert got.usage_id == "use_1"
    assert (got.prompt_tokens, got.completion_tokens) == (14, 35)
    assert got.outcome == events_pb2.REQUEST_OUTCOME_SUCCESS
    assert got.attempts[0].served
    summary = await call(
        up.stub.SummarizeUsage,
        usage_pb2.SummarizeUsageRequest(group_by="model"),
        principal=USER,
    )
    assert (summary.total.requests, summary.total.cost_nanousd) == (3, 3 * 12_345)
    assert [bucket.value for bucket in summary.buckets] == ["local/smol"]
    page = await call(
        up.stub.ListRequests,
        usage_pb2.ListRequestsRequest(page=common_pb2.PageRequest(page_size=2), with_total=True),
        principal=USER,
    )
    assert (len(page.requests), page.total) == (2, 3)
    assert page.page.next_page_token


async def _has(up: Running, count: int) -> bool:
    return len(await up.listed()) == count


async def test_each_principal_sees_its_own_and_no_more(usage_service: Running) -> None:
    up = usage_service
    up.record(1, key_id="key_1")
    up.record(2, key_id="key_2")
    up.record(3, account_id="acc_2")
    await eventually_async(lambda: _has(up, 2))
    assert await up.listed(Principal("key", "acc_1", key_id="key_2")) == ["use_2"]
    others = Principal("operator", "acc_2")

    async def has_the_other() -> bool:
        return await up.listed(others) == ["use_3"]

    await eventually_async(has_the_other)
    assert await up.listed(Principal("user", "acc_9")) == []
    with pytest.raises(NotFound):
        await up.channel.call(
            up.stub.GetRequest,
            usage_pb2.GetRequestRequest(request_id="req_1"),
            principal=Principal("key", "acc_1", key_id="key_2"),
        )
    for nobody in (OPERATOR, Principal("key", "acc_1")):
        with pytest.raises(Forbidden):
            await up.listed(nobody)


async def test_a_tail_gives_new_requests_of_the_account_as_they_become_durable(
    usage_service: Running,
) -> None:
    up = usage_service
    mine = up.channel.stream(up.stub.TailRequests, usage_pb2.TailRequestsRequest(), principal=USER)
    everything = up.channel.stream(
        up.stub.TailRequests, usage_pb2.TailRequestsRequest(), principal=OPERATOR
    )
    first, second = (asyncio.ensure_future(anext(tail)) for tail in (mine, everything))
    await eventually(lambda: up.service.tails.count == 2)
    up.record(1, account_id="acc_2")
    assert (await second).usage_id == "use_1"
    up.record(2)
    assert (await first).usage_id == "use_2"
    assert "use_2" in await up.listed()
    await mine.aclose()
    await everything.aclose()
    await eventually(lambda: up.service.tails.count == 0)


async def test_a_tail_that_is_not_read_is_ended_with_a_reason(usage_service: Running) -> None:
    up = usage_service
    tail = up.channel.stream(
        up.stub.TailRequests, usage_pb2.TailRequestsRequest(), principal=USER, timeout_s=20
    )
    first = asyncio.ensure_future(anext(tail))
    await eventually(lambda: up.service.tails.count == 1)
    # More than the tail's queue, stored as one batch: the stream cannot take them in between.
    for number in range(120):
        up.record(number)
    await first
    with pytest.raises(RateLimitExceeded, match="rows behind"):
        await _exhaust(tail)


async def _exhaust(tail: AsyncIterator[usage_pb2.LoggedRequest]) -> None:
    async for _ in tail:
        pass


async def test_what_is_out_of_bounds_is_refused_by_name(usage_service: Running) -> None:
    up = usage_service
    wrong = [
        (usage_pb2.ListRequestsRequest(offset=10_001), "offset"),
        (usage_pb2.ListRequestsRequest(page=common_pb2.PageRequest(page_size=1_001)), "page_size"),
        (usage_pb2.ListRequestsRequest(page=common_pb2.PageRequest(page_token="x")), "page_token"),
        (
            usage_pb2.ListRequestsRequest(
                filter=usage_pb2.RequestFilter(model_ids=[str(n) for n in range(201)])
            ),
            "model_id",
        ),
        (
            usage_pb2.ListRequestsRequest(filter=usage_pb2.RequestFilter(since_ms=-1)),
            "since_ms",
        ),
    ]
    for request, field in wrong:
        with pytest.raises(InvalidArgument, match=field):
            await up.channel.call(up.stub.ListRequests, request, principal=USER)


async def test_a_service_that_is_not_named_is_refused(chdb_dsn: str, new_database: str) -> None:
    async with served(chdb_dsn, new_database, service="billing") as up:
        with pytest.raises(Forbidden):
            await up.listed()


async def test_an_undecodable_event_goes_to_the_dead_letters_and_the_rest_is_logged(
    usage_service: Running,
) -> None:
    up = usage_service
    up.log.append(USAGE.name, b"acc_1", b"\xff not an envelope")
    up.record(1)
    await eventually_async(lambda: _has(up, 1))
    assert len(up.log.messages(USAGE_DEAD.name)) == 1


async def test_without_its_store_the_service_stays_up_and_says_what_is_missing(
    new_database: str,
) -> None:
    async with served(f"clickhouse://127.0.0.1:{unused_port()}/log", new_database) as up:
        url = f"http://127.0.0.1:{up.service.ops.port}/readyz"
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            await asyncio.to_thread(urllib.request.urlopen, url, timeout=5)
        assert json.loads(refused.value.read())["not_ready"] == ["clickhouse", "kafka"]
        refused.value.close()
        with pytest.raises(Unavailable, match="store is away"):
            await up.listed()


async def test_prompts_are_for_owners_and_admins_of_the_account_and_gone_when_erased(
    usage_service: Running,
) -> None:
    up = usage_service
    content = events_content_pb2.ContentRecorded(
        usage_id="use_1", account_id="acc_1", received_at_ms=START_MS, prompt="Hello", answer="Hi"
    )
    record = record_of(content, account_id="acc_1", occurred_at_ms=START_MS)
    up.log.append(CONTENT.name, b"acc_1", record.to_bytes())
    contents = content_pb2_grpc.ContentServiceStub(up.channel.channel())
    wanted = content_pb2.GetContentRequest(usage_id="use_1")
    admin = Principal("user", "acc_1", "usr_1", role="admin")

    async def is_there() -> bool:
        with suppress(NotFound):
            got = await up.channel.call(contents.GetContent, wanted, principal=admin)
            return (got.prompt, got.answer) == ("Hello", "Hi")
        return False

    await eventually_async(is_there)
    search = content_pb2.SearchContentRequest(words="HELLO hi")
    erase = content_pb2.EraseContentRequest()
    for stranger in (USER, Principal("user", "acc_1", role="member"), Principal("key", "acc_1")):
        with pytest.raises(Forbidden):
            await up.channel.call(contents.GetContent, wanted, principal=stranger)
        with pytest.raises(Forbidden):
            await up.channel.call(contents.SearchContent, search, principal=stranger)
        with pytest.raises(Forbidden):
            await up.channel.call(contents.EraseContent, erase, principal=stranger)
    others = Principal("user", "acc_2", "usr_2", role="owner")
    with pytest.raises(NotFound):
        await up.channel.call(contents.GetContent, wanted, principal=others)
    found = await up.channel.call(contents.SearchContent, search, principal=admin)
    assert [one.usage_id for one in found.contents] == ["use_1"]
    assert (await up.channel.call(contents.EraseContent, erase, principal=others)).erased == 0
    assert await is_there()
    erased = await up.channel.call(contents.EraseContent, erase, principal=admin)
    assert erased.erased == 1
    assert not await is_there()
