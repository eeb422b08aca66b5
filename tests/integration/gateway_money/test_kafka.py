"""Money and state of a worker against Apache Kafka itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.clock import SystemClock
from services.common.events import EventRecord
from services.common.ids import ProviderId, WorkerId
from services.common.kafka import KafkaProducer, create_topics
from services.common.pb.mesh.events.v1.usage_pb2 import REQUEST_OUTCOME_CRASHED, UsageRecorded
from services.common.topics import KEYS, MODELS, TEMPLATES, USAGE
from services.gateway.adapters.grants_memory import MemoryGrants
from services.gateway.journal.limits import JournalLimits
from services.gateway.money import Money
from services.gateway.state.credentials import Credential
from services.gateway.state.state import GatewayState, kafka_readers
from tests.unit.gateway_money.builders import ACCOUNT, admitted, event, wants
from tests.unit.gateway_money.test_state import HASH, key_bytes, model_bytes, provider_bytes

REQUESTS = 300


@pytest.fixture
async def bootstrap(own_kafka: str) -> str:
    """A broker with the product's topics."""
    await create_topics(own_kafka, [USAGE, KEYS, MODELS, TEMPLATES])
    return own_kafka


@pytest.fixture
async def producer(bootstrap: str) -> AsyncIterator[KafkaProducer]:
    """A producer that is connected."""
    found = KafkaProducer(bootstrap, client_id="test")
    await found.start()
    yield found
    await found.stop()


def _open(directory: Path, billing: MemoryGrants, producer: KafkaProducer) -> Money:
    return Money.open(
        directory,
        billing=billing,
        producer=producer,
        worker_id=WorkerId("w1"),
        clock=SystemClock(),
        journal_limits=JournalLimits(reserve_bytes=0, segment_bytes=50_000),
    )


async def _request(money: Money, name: str, *, ends: bool) -> None:
    hold = await money.budget.place(wants(name, 100))
    money.journal.admitted(admitted(name, hold))
    if ends:
        await money.journal.record(event(name, 3), hold)


async def _stop(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _usage_events(bootstrap: str) -> dict[str, UsageRecorded]:
    """Every event on the usage topic, by usage id."""
    consumer: Any = AIOKafkaConsumer(  # Any: aiokafka is untyped
        bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: dict[str, UsageRecorded] = {}
    try:
        places = [TopicPartition(USAGE.name, number) for number in range(USAGE.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                for record in (await consumer.getmany(place, timeout_ms=500)).get(place, []):
                    decoded = EventRecord.from_bytes(record.value).message()
                    assert isinstance(decoded, UsageRecorded)
                    assert record.key == decoded.account_id.encode()
                    found[decoded.usage_id] = decoded
    finally:
        await consumer.stop()
    return found


async def test_every_request_is_in_kafka_once_its_worker_has_come_back(
    bootstrap: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    billing = MemoryGrants(clock=SystemClock())
    billing.balances[ACCOUNT] = 10**9
    money = _open(tmp_path, billing, producer)
    task = asyncio.ensure_future(money.run())
    await asyncio.gather(
        *(_request(money, f"k{number}", ends=number % 10 > 0) for number in range(REQUESTS))
    )
    # It dies with a tenth of its requests in flight and whatever was not delivered yet.
    await _stop(task)
    await money.close(drained=False)

    money = _open(tmp_path, billing, producer)
    await money.recover()
    task = asyncio.ensure_future(money.run())
    assert await money.drain(timeout_s=30)
    await _stop(task)
    await money.close(drained=True)
    found = await _usage_events(bootstrap)
    mine = {usage_id: each for usage_id, each in found.items() if usage_id.startswith("use_k")}
    assert len(mine) == REQUESTS
    crashed = [each for each in mine.values() if each.outcome == REQUEST_OUTCOME_CRASHED]
    assert len(crashed) == REQUESTS // 10
    assert billing.open_grants == []
    spent = sum(lent.spent_nanousd or 0 for lent in billing.lent.values())
    assert spent == sum(each.cost_nanousd for each in mine.values())
    assert os.listdir(tmp_path) == ["lock"]


class Vault:
    """The catalogue's credentials."""

    async def fetch(self, provider_id: ProviderId, credential_id: str) -> Credential:
        return Credential(1, f"{credential_id} of {provider_id}")


async def test_a_worker_reads_the_tables_and_hears_of_changes(
    bootstrap: str, producer: KafkaProducer
) -> None:
    await producer.send(KEYS.name, HASH.encode(), key_bytes())
    await producer.send(KEYS.name, b"broken", b"not an envelope")
    await producer.send(MODELS.name, b"model:m", model_bytes("m"))
    await producer.send(MODELS.name, b"provider:prv_1", provider_bytes())
    state = GatewayState(kafka_readers(bootstrap), Vault(), clock=SystemClock())
    task = asyncio.ensure_future(state.run())
    async with asyncio.timeout(30):
        await state.wait_ready()
        state.freshness.require()
        found = state.keys.find(HASH)
        assert found is not None
        assert not found.suspended
        assert state.catalogue.model("m") is not None
        await producer.send(KEYS.name, HASH.encode(), key_bytes(suspended=True))
        await _until(lambda: (key := state.keys.find(HASH)) is not None and key.suspended)
        await _until(lambda: state.credentials.complete)
    provider = state.catalogue.provider("prv_1")
    assert provider is not None
    assert provider.credential == "default of prv_1"
    await _stop(task)


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - the tables tell nobody when they change
        await asyncio.sleep(0.01)
