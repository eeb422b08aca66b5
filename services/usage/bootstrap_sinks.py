"""Puts together the two sinks of the log: requests, and the ledger's transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.common.clock import SystemClock
from services.common.kafka import DeadLetters, LogProducer, LogSource, Pump
from services.common.kafka.source import KafkaSource
from services.common.runtime import Component
from services.common.topics import LEDGER, USAGE_DEAD, Topic
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.ledger_event import ledger_row_from_message
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.adapters.usage_event import row_from_message
from services.usage.config import UsageSettings
from services.usage.domain.ledger_row import LedgerRow
from services.usage.domain.row import RequestRow
from services.usage.ports import LEDGER_TRANSACTIONS, REQUESTS
from services.usage.rollup.marks import MarkingSinkStore
from services.usage.sink.lost import Standstill
from services.usage.sink.target import RowSink

# A row holds about ten containers and fifty values, none of them in a cycle. A look at a batch
# costs a third of its decoding, so it takes more than a batch of each partition.
GC_THRESHOLD = 1_000_000

# What comes in one go from the log goes into one insert.
LINGER_S = 0.01


def letters_of(settings: UsageSettings, producer: LogProducer) -> DeadLetters:
    """Where undecodable events go."""
    limit = settings.dead_letters_max
    return DeadLetters(producer, consumer="usage", topic=USAGE_DEAD, limit=limit)


class SinkParts:
    """The pumps of the log, and the components that run them. The sources take the place of
    Kafka; `on_rows` is told of requests once they are durable.
    """

    def __init__(
        self,
        settings: UsageSettings,
        clickhouse: ClickHouse,
        letters: DeadLetters,
        *,
        topic: Topic,
        on_rows: Callable[[Sequence[RequestRow]], None],
        source: LogSource | None = None,
        ledger_source: LogSource | None = None,
    ) -> None:
        self._settings = settings
        group = settings.sink_group
        source = source or self._source(topic, group)
        sink = RowSink[RequestRow](
            MarkingSinkStore(ClickHouseSinkStore(clickhouse, REQUESTS), clickhouse, SystemClock()),
            decode=row_from_message,
            dead_letters=letters,
            log_bounds=source.bounds,
            on_rows=on_rows,
        )
        self.pump = self._pump(sink, topic, group, source=source)
        ledger_group = f"{group}-ledger"
        ledger_source = ledger_source or self._source(LEDGER, ledger_group)
        ledger_sink = RowSink[LedgerRow](
            ClickHouseSinkStore(clickhouse, LEDGER_TRANSACTIONS),
            decode=ledger_row_from_message,
            dead_letters=letters,
            log_bounds=ledger_source.bounds,
            on_rows=lambda _rows: None,
        )
        self.ledger_pump = self._pump(ledger_sink, LEDGER, ledger_group, source=ledger_source)
        # A name for people, what notes its batches, and what runs its pump.
        self._sinks: tuple[tuple[str, RowSink[Any], Standstill], ...] = (
            ("sink", sink, Standstill(self.pump.run)),
            ("ledger sink", ledger_sink, Standstill(self.ledger_pump.run)),
        )

    def _source(self, topic: Topic, group: str) -> KafkaSource:
        return KafkaSource(bootstrap=self._settings.kafka_bootstrap, topic=topic.name, group=group)

    # Any: a sink of any table.
    def _pump(self, sink: RowSink[Any], topic: Topic, group: str, *, source: LogSource) -> Pump:
        return Pump(
            topic=topic,
            group=group,
            target=sink,
            batch_max=self._settings.sink_batch_max,
            linger_s=LINGER_S,
            apart_s=self._settings.sink_linger_ms / 1000,
            source=source,
        )

    @property
    def pumps(self) -> tuple[Pump, Pump]:
        return self.pump, self.ledger_pump

    def are_ready(self) -> bool:
        """Whether each pump has claimed its partitions."""
        return all(pump.ready.is_set() for pump in self.pumps)

    def have_positions(self) -> bool:
        """Whether no sink stands still because messages are gone that it had not read."""
        return not any(standstill.stands_still for _, _, standstill in self._sinks)

    def are_current(self) -> bool:
        """Whether everything is stored that the log is known to hold."""
        return self.have_positions() and not any(pump.lag() for pump in self.pumps)

    def components(
        self, when_open: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
    ) -> list[Component]:
        """The sinks, which wait for the store to be opened."""

        def running(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
            return lambda: when_open(work)

        found = []
        for name, sink, standstill in self._sinks:
            found.append(Component(name, run=running(standstill.run)))
            found.append(Component(f"{name}'s notes", run=running(sink.keep_noting)))
        return found
