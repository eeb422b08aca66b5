"""Puts together what keeps prompts and answers: always what reads, drops and erases them, and the
sink where the operator allows them to be stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.common.clock import Clock, SystemClock
from services.common.grpc import GrpcServer
from services.common.kafka import LogMessage, LogSource, Pump
from services.common.kafka.source import KafkaSource
from services.common.pb.mesh.usage.v1 import content_pb2_grpc
from services.common.runtime import Component
from services.common.telemetry import get_logger
from services.common.topics import CONTENT
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.content_event import content_row_from_message
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.bootstrap_sinks import LINGER_S
from services.usage.config import UsageSettings
from services.usage.contents.erasures import Erasures
from services.usage.contents.retention import ContentRetention
from services.usage.contents.search_index import SearchIndex
from services.usage.contents.sink_store import ContentSinkStore
from services.usage.contents.views import ContentViews
from services.usage.domain.content_row import ContentRow
from services.usage.entrypoints.grpc_contents import ContentServicer
from services.usage.metrics import CONTENTS_UNREADABLE
from services.usage.ports import CONTENTS
from services.usage.sink.target import RowSink

_log = get_logger(__name__)

# Rows are large: fewer of them are as many bytes.
_BATCH_MAX = 500


class Unreadable:
    """What cannot be decoded is not put among the dead letters, where it would stay for a year and
    no erasure would reach it: it is counted and left out.
    """

    async def put(self, message: LogMessage, reason: str) -> None:
        """Says where it was, never what it was."""
        CONTENTS_UNREADABLE.inc()
        at = f"{message.topic}/{message.partition}:{message.offset}"
        _log.error("content cannot be decoded", at=at, reason=reason)


class ContentParts:
    """The gRPC service of contents, and the components beside it."""

    def __init__(
        self,
        settings: UsageSettings,
        clickhouse: ClickHouse,
        *,
        source: LogSource | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._index = SearchIndex(clickhouse)
        erasures = Erasures(clickhouse, clock)
        self._retention = ContentRetention(
            clickhouse, clock, erasures, settings.content_retention_days
        )
        self._servicer = ContentServicer(ContentViews(clickhouse, erasures, self._index), erasures)
        self.pump: Pump | None = None
        if settings.content_stored:
            group = f"{settings.sink_group}-content"
            source = source or KafkaSource(
                bootstrap=settings.kafka_bootstrap, topic=CONTENT.name, group=group
            )
            store = ContentSinkStore(
                ClickHouseSinkStore(clickhouse, CONTENTS), erasures, source.bounds
            )
            sink = RowSink[ContentRow](
                store,
                decode=content_row_from_message,
                dead_letters=Unreadable(),
                log_bounds=source.bounds,
                on_rows=lambda _rows: None,
            )
            self.pump = Pump(
                topic=CONTENT,
                group=group,
                target=sink,
                batch_max=min(_BATCH_MAX, settings.sink_batch_max),
                linger_s=LINGER_S,
                apart_s=settings.sink_linger_ms / 1000,
                source=source,
            )

    async def open(self) -> None:
        """Makes the index of words."""
        _log.info("contents are searched", index=await self._index.open())

    def serve_on(self, server: GrpcServer) -> None:
        """Adds the gRPC service."""
        server.reflect("mesh.usage.v1.ContentService")
        content_pb2_grpc.add_ContentServiceServicer_to_server(self._servicer, server.grpc)

    def components(
        self, when_open: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
    ) -> tuple[Component, ...]:
        """What runs, each once the store is open."""
        housekeeping = Component("contents", run=lambda: when_open(self._retention.run))
        if self.pump is None:
            return (housekeeping,)
        pump = self.pump
        return (Component("content sink", run=lambda: when_open(pump.run)), housekeeping)
