"""The live process against Apache Kafka: every window equals what the request log says."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.common.config import DEVELOPMENT_SECRET, HostPort
from services.common.errors import Forbidden, InvalidArgument
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.ids import new_id
from services.common.kafka import KafkaProducer
from services.common.kafka.memory import MemoryLog, MemoryProducer, MemorySource
from services.common.pb.mesh.usage.v1 import live_pb2, live_pb2_grpc
from services.common.runtime import Component
from services.common.topics import LEDGER, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.bootstrap import build as build_usage
from services.usage.config import UsageSettings
from services.usage.domain.live import RESOLUTIONS, LiveEvent
from services.usage.live.bootstrap import LiveProcess, build
from services.usage.live.config import LiveSettings
from tests.fixtures.engines import MakeTopic
from tests.fixtures.waiting import eventually, eventually_async, running
from tests.unit.usage.builders import envelope, usage

EVENTS = 400
OWNER = Principal("user", "acc_1", "usr_1", role="viewer")
FIGURES = (
    "toInt64(count()), toInt64(countIf(outcome NOT IN ('success', 'client_gone'))),"
    " sum(prompt_tokens), sum(completion_tokens), sum(cost_nanousd),"
    " arraySort(groupArray(latency_ms))"
)
Figures = dict[tuple[str, int], tuple[int, ...]]


@asynccontextmanager
async def up(components: tuple[Component, ...]) -> AsyncIterator[None]:
    """Runs components beside the block."""
    async with AsyncExitStack() as stack:
        for component in components:
            if component.start is not None:
                await component.start()
            if component.stop is not None:
                stack.push_async_callback(component.stop)
            if component.run is not None:
                await stack.enter_async_context(running(component.run))
        yield


def live(bootstrap: str, topic: Topic, group: str) -> LiveProcess:
    settings = LiveSettings(
        kafka_bootstrap=HostPort(bootstrap),
        grpc_listen=HostPort("127.0.0.1:0"),
        ops_listen=HostPort("127.0.0.1:0"),
        group=group,
    )
    return build(settings, topic=topic)


async def produce(bootstrap: str, topic: Topic) -> None:
    """EVENTS requests of two accounts that ended within the last half hour, some of them twice."""
    chance, now_ms = random.Random(11), SystemClock().now_ms()
    producer = KafkaProducer(bootstrap)
    await producer.start()
    try:
        for number in range(EVENTS):
            latency_ms = round(chance.lognormvariate(5, 1.5))
            ended_ms = now_ms - round(chance.random() ** 3 * 1_500_000)
            event = usage(
                usage_id=f"use_{number}",
                account_id=f"acc_{1 + number % 2}",
                key_id=f"key_{chance.randrange(3)}",
                model_id=f"model_{chance.randrange(3)}",
                outcome=chance.choice([1, 1, 3, 4]),
                received_at_ms=ended_ms - latency_ms,
                latency_ms=latency_ms,
                cost_nanousd=chance.randrange(10**7),
            )
            for _ in range(1 + (number % 10 == 0)):
                await producer.send(topic.name, event.account_id.encode(), envelope(event))
        await producer.send(topic.name, b"acc_1", b"no event at all")
    finally:
        await producer.stop()


def figures_of(answer: live_pb2.LiveWindows) -> Figures:
    """By value and start of the bucket: its sums, and its quantiles."""
    return {
        (series.value, bucket.start_ms // 1000): (
            bucket.requests,
            bucket.errors,
            bucket.prompt_tokens,
            bucket.completion_tokens,
            bucket.cost_nanousd,
            bucket.latency_p50_ms,
            bucket.latency_p95_ms,
        )
        for series in answer.series
        for bucket in series.buckets
    }


@pytest.mark.parametrize("restarts", [1])
async def test_every_window_equals_the_log_also_after_a_restart(
    kafka_bootstrap: str, make_topic: MakeTopic, chdb_dsn: str, new_database: str, restarts: int
) -> None:
    topic, group = make_topic(partitions=3), new_id("live")
    settings = UsageSettings(
        kafka_bootstrap=HostPort(kafka_bootstrap),
        clickhouse_dsn=SecretStr(chdb_dsn),
        clickhouse_database=new_database,
        grpc_listen=HostPort("127.0.0.1:0"),
        ops_listen=HostPort("127.0.0.1:0"),
        sink_group=new_id("log"),
    )
    ledger = MemorySource(MemoryLog(), topic=LEDGER, group="ledger")
    letters = MemoryProducer(MemoryLog())
    log = build_usage(settings, ledger_source=ledger, producer=letters, topic=topic)
    await produce(kafka_bootstrap, topic)
    async with up(log.components):
        reader = log.store.clickhouse

        async def is_logged() -> bool:
            if not log.store.opened.is_set():
                return False
            [(count,)] = await reader.query("SELECT uniqExact(usage_id) FROM requests")
            return bool(count == EVENTS)

        await eventually_async(is_logged)
        for _ in range(1 + restarts):
            process = live(kafka_bootstrap, topic, group)
            async with up(process.components):
                await eventually(process.worker.ready.is_set)
                await compare(process, reader)


async def compare(process: LiveProcess, reader: ClickHouse) -> None:
    """Asks both sides for each resolution and dimension."""
    signer = TokenSigner(DEVELOPMENT_SECRET, "dashboard")
    channel = GrpcChannel(f"127.0.0.1:{process.server.port}", signer, default_timeout_s=20)
    stub = live_pb2_grpc.LiveServiceStub(channel.channel())
    try:
        for resolution_s in RESOLUTIONS:
            for group_by, column in (("", "''"), ("key", "key_id"), ("model", "model_id")):
                request = live_pb2.GetLiveRequest(resolution_s=resolution_s, group_by=group_by)
                answer = await channel.call(stub.GetLive, request, principal=OWNER)
                assert answer.lag_ms == 0
                logged = await reader.query(
                    f"SELECT toString({column}) AS value,"
                    " intDiv(toUnixTimestamp64Milli(received_at) + latency_ms,"
                    f" 1000 * {resolution_s}) * {resolution_s} AS start, {FIGURES}"
                    " FROM requests FINAL WHERE account_id = 'acc_1' GROUP BY value, start"
                )
                check(figures_of(answer), logged, answer, resolution_s)
    finally:
        await channel.close()


def check(
    found: Figures,
    logged: list[tuple[object, ...]],
    answer: live_pb2.LiveWindows,
    resolution_s: int,
) -> None:
    """Every bucket that lies whole within what is kept is there, with the same figures."""
    oldest_s = answer.now_ms // 1000 - RESOLUTIONS[resolution_s] + resolution_s
    compared = 0
    for value, start, *sums, latencies in logged:
        assert isinstance(value, str)
        assert isinstance(start, int)
        assert isinstance(latencies, list)
        if start < oldest_s:
            continue
        *counted, p50, p95 = found[value, start]
        assert tuple(counted) == tuple(sums), (value, start)
        for quantile, share in ((p50, 0.5), (p95, 0.95)):
            exact = latencies[-(-round(share * 100 * len(latencies)) // 100) - 1]
            assert quantile == pytest.approx(exact, abs=0.02 * exact + 1)
        compared += 1
    assert compared > 0
    assert {key for key in found if key[1] >= oldest_s} <= {(row[0], row[1]) for row in logged}


async def test_windows_leave_no_folder_behind(
    kafka_bootstrap: str, make_topic: MakeTopic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    process = live(kafka_bootstrap, make_topic(), new_id("live"))
    async with up(process.components):
        await eventually(lambda: any((tmp_path / "temporary").iterdir()))
    assert not list((tmp_path / "here").iterdir())
    assert not list((tmp_path / "temporary").iterdir())


async def test_a_watcher_sees_a_request_soon_after_its_event(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic = make_topic(partitions=2)
    process = live(kafka_bootstrap, topic, new_id("live"))
    producer = KafkaProducer(kafka_bootstrap)
    await producer.start()
    async with up(process.components):
        await eventually(process.worker.ready.is_set)
        signer = TokenSigner(DEVELOPMENT_SECRET, "dashboard")
        channel = GrpcChannel(f"127.0.0.1:{process.server.port}", signer, default_timeout_s=60)
        stub = live_pb2_grpc.LiveServiceStub(channel.channel())
        request = live_pb2.GetLiveRequest(resolution_s=1, group_by="model")
        answers = channel.stream(stub.WatchLive, request, principal=OWNER, timeout_s=60)
        try:
            first = await anext(answers)
            assert first.whole
            assert not first.series
            now_ms = SystemClock().now_ms()
            for account_id in ("acc_1", "acc_2"):
                event = usage(
                    usage_id=f"use_{account_id}",
                    account_id=account_id,
                    received_at_ms=now_ms,
                    model_id="model_x",
                )
                await producer.send(topic.name, account_id.encode(), envelope(event))
            async for answer in answers:
                assert not answer.whole
                if answer.series:
                    break
            assert [(s.value, [b.requests for b in s.buckets]) for s in answer.series] == [
                ("model_x", [1])
            ]
        finally:
            await answers.aclose()
            await channel.close()
            await producer.stop()


async def test_a_key_sees_its_own_windows_and_wrong_requests_name_the_field(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    process = live(kafka_bootstrap, make_topic(), new_id("live"))
    signer = TokenSigner(DEVELOPMENT_SECRET, "gateway")
    key = Principal("key", "acc_1", "usr_1", key_id="key_1")
    [_, _, grpc] = process.components
    async with up((grpc,)):
        channel = GrpcChannel(f"127.0.0.1:{process.server.port}", signer, default_timeout_s=20)
        stub = live_pb2_grpc.LiveServiceStub(channel.channel())
        now_ms = SystemClock().now_ms()
        for number in range(4):
            name = f"key_{number % 2}"
            event = LiveEvent(f"use_{number}", "acc_1", name, "m", now_ms, 5, False, 1, 1, 1)
            assert process.windows.add(event, now_ms)
        try:
            request = live_pb2.GetLiveRequest(resolution_s=60)
            answer = await channel.call(stub.GetLive, request, principal=key)
            assert [series.value for series in answer.series] == ["key_1"]
            for wrong, field in (
                (live_pb2.GetLiveRequest(resolution_s=2), "resolution_s"),
                (live_pb2.GetLiveRequest(resolution_s=1, window_s=9_999), "window_s"),
                (live_pb2.GetLiveRequest(resolution_s=1, group_by="member"), "group_by"),
            ):
                with pytest.raises(InvalidArgument, match=field):
                    await channel.call(stub.GetLive, wrong, principal=OWNER)
            by_model = live_pb2.GetLiveRequest(resolution_s=1, group_by="model")
            with pytest.raises(Forbidden):
                await channel.call(stub.GetLive, by_model, principal=key)
        finally:
            await channel.close()


async def test_a_key_never_gets_the_newest_minute_which_is_that_of_every_key(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    process = live(kafka_bootstrap, make_topic(), new_id("live"))
    signer = TokenSigner(DEVELOPMENT_SECRET, "gateway")
    key = Principal("key", "acc_1", "usr_1", key_id="key_1")
    [_, _, grpc] = process.components
    async with up((grpc,)):
        channel = GrpcChannel(f"127.0.0.1:{process.server.port}", signer, default_timeout_s=20)
        stub = live_pb2_grpc.LiveServiceStub(channel.channel())
        now_ms = SystemClock().now_ms()
        other = LiveEvent("use_1", "acc_1", "key_2", "m", now_ms, 5, False, 1, 1, 1)
        assert process.windows.add(other, now_ms)
        try:
            for wanted in (
                live_pb2.GetLiveRequest(resolution_s=1, newest_minute=True),
                live_pb2.GetLiveRequest(resolution_s=60, newest_minute=True, group_by="key"),
                live_pb2.GetLiveRequest(resolution_s=1, newest_minute=True, values=["key_2"]),
            ):
                for principal in (key, OWNER):
                    watched = channel.stream(
                        stub.WatchLive, wanted, principal=principal, timeout_s=30
                    )
                    for answer in (
                        await channel.call(stub.GetLive, wanted, principal=principal),
                        await anext(watched),
                    ):
                        # It is the account's, so that it is there to be kept from the key.
                        owners = principal == OWNER and not wanted.group_by
                        assert answer.HasField("newest_minute") == owners
                        assert principal == OWNER or not answer.series
                    await watched.aclose()
        finally:
            await channel.close()
