"""Puts the usage service together, by plain calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common import operations
from services.common.clock import SystemClock
from services.common.consumers import ConsumerWatch, Reading
from services.common.errors import Unavailable
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka import (
    KafkaArchive,
    KafkaGroups,
    KafkaProducer,
    LogProducer,
    LogSource,
    Pump,
)
from services.common.operations import OperationsServicer
from services.common.ops import OpsServer
from services.common.pb.mesh.usage.v1 import usage_pb2_grpc
from services.common.put_aside import DeadLetterDesk
from services.common.retry import Backoff
from services.common.runtime import Component
from services.common.telemetry import get_logger
from services.common.topics import USAGE, USAGE_DEAD, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.migrations import migrate
from services.usage.adapters.positions_clickhouse import ClickHousePositions
from services.usage.bootstrap_analysts import AnalystParts
from services.usage.bootstrap_contents import ContentParts
from services.usage.bootstrap_reads import ReadParts
from services.usage.bootstrap_sinks import SinkParts, letters_of
from services.usage.config import UsageSettings
from services.usage.entrypoints import grpc_analysts, grpc_contents
from services.usage.entrypoints.grpc_usage import POLICIES, UsageServicer
from services.usage.sink.tail import TailHub

_RETRY_FIRST_S = 0.2
_RETRY_MAX_S = 5.0
_PROBE_S = 2.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running usage service, and the components that the runtime starts in order."""

    store: StoreKeeper
    pump: Pump
    ledger_pump: Pump
    tails: TailHub
    server: GrpcServer
    ops: OpsServer
    components: tuple[Component, ...]


class StoreKeeper:
    """Opens the store, tries again while it is away, and knows whether it answers."""

    def __init__(
        self, clickhouse: ClickHouse, on_open: Sequence[Callable[[], Awaitable[None]]] = ()
    ) -> None:
        self.clickhouse = clickhouse
        self._on_open = on_open
        self.opened = asyncio.Event()
        self.is_there = False

    async def run(self) -> None:
        """Opens and migrates the store, then asks it now and then whether it is there."""
        backoff = Backoff(first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
        while not self.opened.is_set():
            try:
                await self.clickhouse.open()
                applied = await migrate(self.clickhouse)
                for prepare in self._on_open:
                    await prepare()
            except Unavailable as error:
                pause_s = backoff.next_s()
                _log.warning("the store is away", error=error.message, pause_s=round(pause_s, 3))
                await asyncio.sleep(pause_s)
            else:
                _log.info("store opened", migrations=applied)
                self.opened.set()
        while True:
            await self._probe()
            await asyncio.sleep(_PROBE_S)

    async def _probe(self) -> None:
        try:
            await self.clickhouse.query("SELECT 1")
        except Unavailable as error:
            if self.is_there:
                _log.warning("the store is away", error=error.message)
            self.is_there = False
        else:
            self.is_there = True


def store_of(settings: UsageSettings, engine_config: Path | None = None) -> ClickHouse:
    """The store that the settings name; not opened yet."""
    return ClickHouse(
        settings.clickhouse_dsn.get_secret_value(),
        database=settings.clickhouse_database,
        readers=settings.readers,
        read_timeout_s=settings.read_timeout_s,
        engine_config=engine_config,
    )


def _server(settings: UsageSettings, servicer: UsageServicer) -> GrpcServer:
    server = GrpcServer(
        listen=settings.grpc_listen,
        verifier=TokenVerifier(settings.service_secret.get_secret_value()),
        policies=POLICIES | grpc_analysts.POLICIES | grpc_contents.POLICIES | operations.POLICIES,
    )
    usage_pb2_grpc.add_UsageServiceServicer_to_server(servicer, server.grpc)
    server.reflect("mesh.usage.v1.UsageService")
    return server


def _checks(store: StoreKeeper, sinks: SinkParts) -> dict[str, Callable[[], bool]]:
    """What is ready. Prompts and answers are not waited for."""
    return {
        "clickhouse": lambda: store.is_there,
        "kafka": sinks.are_ready,
        "position": sinks.have_positions,
    }


def build(
    settings: UsageSettings,
    *,
    source: LogSource | None = None,
    ledger_source: LogSource | None = None,
    content_source: LogSource | None = None,
    producer: LogProducer | None = None,
    topic: Topic = USAGE,
) -> Service:
    """The service; the sources and `producer` take the place of Kafka. Nothing is opened yet."""
    producer = producer or KafkaProducer(settings.kafka_bootstrap, client_id="mesh-usage")
    analysts = AnalystParts(settings, store_of)
    clickhouse = analysts.clickhouse
    contents = ContentParts(settings, clickhouse, source=content_source)
    store = StoreKeeper(clickhouse, (contents.open, analysts.open))
    tails = TailHub(subscribers_max=settings.tails_max, queue_max=settings.tail_queue_max)
    sinks = SinkParts(
        settings,
        clickhouse,
        letters_of(settings, producer),
        topic=topic,
        on_rows=tails.publish,
        source=source,
        ledger_source=ledger_source,
    )
    reads = ReadParts(settings, clickhouse, tails=tails, is_current=sinks.are_current)
    server = _server(settings, reads.servicer)
    analysts.serve_on(server)
    contents.serve_on(server)
    pumps = (*sinks.pumps, *((contents.pump,) if contents.pump is not None else ()))
    operations_of(clickhouse, producer, pumps, bootstrap=settings.kafka_bootstrap).serve_on(server)
    ops = OpsServer(settings.ops_listen, _checks(store, sinks))

    async def when_open(work: Callable[[], Awaitable[None]]) -> None:
        await store.opened.wait()
        await work()

    async def stop_server() -> None:
        ops.drain()
        tails.close()
        await server.stop(settings.shutdown_grace_s)

    components = (
        Component("ops", ops.start, ops.run, ops.stop),
        Component("store", run=store.run, stop=analysts.close_store),
        Component("dead letters", run=lambda: _keep_connected(producer), stop=producer.stop),
        *sinks.components(when_open),
        Component("grpc", server.start, server.run, stop_server),
        *reads.components(when_open),
        *contents.components(when_open),
        *analysts.components(),
    )
    return Service(store, *sinks.pumps, tails, server, ops, components)


def operations_of(
    clickhouse: ClickHouse, producer: LogProducer, pumps: Sequence[Pump], *, bootstrap: str
) -> OperationsServicer:
    """What the request log tells its operators: how far it is, and what it put aside."""
    positions = ClickHousePositions(clickhouse)
    readings = [Reading(pump.group, pump.topic, positions) for pump in pumps]
    watch = ConsumerWatch(KafkaGroups(bootstrap), readings, pumps=pumps)
    archive = KafkaArchive(bootstrap)
    return OperationsServicer(
        watch, DeadLetterDesk(archive, producer, dead=USAGE_DEAD, clock=SystemClock())
    )


async def _keep_connected(producer: LogProducer) -> None:
    """Connects the producer, however long it takes: only dead letters need it, and the log of good
    events goes on without.
    """
    while True:
        try:
            await producer.start()
        except Unavailable as error:
            _log.warning("no dead letters can be written", error=error.message)
        else:
            break
    await asyncio.Event().wait()
