"""Puts the usage service together, by plain calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common import operations
from services.common.clock import SystemClock
from services.common.errors import Unavailable
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka import (
    DeadLetters,
    KafkaArchive,
    KafkaProducer,
    LogProducer,
    LogSource,
    Pump,
    PumpTarget,
)
from services.common.kafka.source import KafkaSource
from services.common.operations import OperationsServicer
from services.common.ops import OpsServer
from services.common.pb.mesh.usage.v1 import usage_pb2_grpc
from services.common.retry import Backoff
from services.common.runtime import Component
from services.common.telemetry import get_logger
from services.common.topics import LEDGER, USAGE, USAGE_DEAD, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.ledger_event import ledger_row_from_message
from services.usage.adapters.migrations import migrate
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.bootstrap_analysts import AnalystParts
from services.usage.bootstrap_contents import ContentParts
from services.usage.bootstrap_reads import ReadParts
from services.usage.config import UsageSettings
from services.usage.domain.ledger_row import LedgerRow
from services.usage.entrypoints import grpc_analysts, grpc_contents
from services.usage.entrypoints.grpc_usage import POLICIES, UsageServicer
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS
from services.usage.rollup.marks import MarkingSinkStore
from services.usage.sink.tail import TailHub
from services.usage.sink.target import RowSink

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


def letters_of(settings: UsageSettings, producer: LogProducer) -> DeadLetters:
    """Where undecodable events go."""
    limit = settings.dead_letters_max
    return DeadLetters(producer, consumer="usage", topic=USAGE_DEAD, limit=limit)


def _pump(
    settings: UsageSettings, target: PumpTarget, *, topic: Topic, group: str, source: LogSource
) -> Pump:
    return Pump(
        topic=topic,
        group=group,
        target=target,
        batch_max=settings.sink_batch_max,
        linger_s=settings.sink_linger_ms / 1000,
        source=source,
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


def _checks(store: StoreKeeper, *pumps: Pump) -> dict[str, Callable[[], bool]]:
    """What is ready. Prompts and answers are not waited for."""
    return {
        "clickhouse": lambda: store.is_there,
        "kafka": lambda: all(pump.ready.is_set() for pump in pumps),
    }


def _ledger_sink(
    clickhouse: ClickHouse, letters: DeadLetters, source: LogSource
) -> RowSink[LedgerRow]:
    return RowSink(
        ClickHouseSinkStore(clickhouse, LEDGER_TRANSACTIONS),
        decode=ledger_row_from_message,
        dead_letters=letters,
        log_bounds=source.bounds,
        on_rows=lambda _rows: None,
    )


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
    bootstrap, group = settings.kafka_bootstrap, settings.sink_group
    ledger_group = f"{group}-ledger"
    source = source or KafkaSource(bootstrap=bootstrap, topic=topic.name, group=group)
    ledger_source = ledger_source or KafkaSource(
        bootstrap=bootstrap, topic=LEDGER.name, group=ledger_group
    )
    producer = producer or KafkaProducer(bootstrap, client_id="mesh-usage")
    letters = letters_of(settings, producer)
    analysts = AnalystParts(settings, store_of)
    clickhouse = analysts.clickhouse
    contents = ContentParts(settings, clickhouse, source=content_source)
    store = StoreKeeper(clickhouse, (contents.open, analysts.open))
    tails = TailHub(subscribers_max=settings.tails_max, queue_max=settings.tail_queue_max)
    sink = RowSink(
        MarkingSinkStore(ClickHouseSinkStore(clickhouse, REQUESTS), clickhouse, SystemClock()),
        decode=row_from_message,
        dead_letters=letters,
        log_bounds=source.bounds,
        on_rows=tails.publish,
    )
    pump = _pump(settings, sink, topic=topic, group=group, source=source)
    ledger_sink = _ledger_sink(clickhouse, letters, ledger_source)
    ledger_pump = _pump(
        settings, ledger_sink, topic=LEDGER, group=ledger_group, source=ledger_source
    )
    reads = ReadParts(
        settings,
        clickhouse,
        tails=tails,
        is_current=lambda: not (pump.lag() or ledger_pump.lag()),
    )
    server = _server(settings, reads.servicer)
    analysts.serve_on(server)
    contents.serve_on(server)
    archive = KafkaArchive(bootstrap)
    OperationsServicer((pump, ledger_pump), archive, producer, dead=USAGE_DEAD).serve_on(server)
    ops = OpsServer(settings.ops_listen, _checks(store, pump, ledger_pump))

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
        Component("sink", run=lambda: when_open(pump.run)),
        Component("ledger sink", run=lambda: when_open(ledger_pump.run)),
        Component("grpc", server.start, server.run, stop_server),
        *reads.components(when_open),
        *contents.components(when_open),
        *analysts.components(),
    )
    return Service(store, pump, ledger_pump, tails, server, ops, components)


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
