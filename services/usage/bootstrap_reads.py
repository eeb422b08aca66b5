"""Puts together what is read from the log, and what keeps house in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.common.clock import Clock, SystemClock
from services.common.runtime import Component
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.config import UsageSettings
from services.usage.entrypoints.grpc_usage import Reads, UsageServicer
from services.usage.export import Exports
from services.usage.reconcile import Reconciler
from services.usage.retention import Retention
from services.usage.rollup.days import DayRoller
from services.usage.sink.tail import TailHub
from services.usage.summaries import UsageSummaries
from services.usage.views import UsageViews


class ReadParts:
    """The gRPC service of the log, and the components beside it. `is_current` says whether both
    sinks have read all there is.
    """

    def __init__(
        self,
        settings: UsageSettings,
        clickhouse: ClickHouse,
        *,
        tails: TailHub,
        is_current: Callable[[], bool],
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._roller = DayRoller(clickhouse, clock, every_s=settings.rollup_every_s)
        self._retention = Retention(clickhouse, clock, settings.retention_days)
        self._reconciler = Reconciler(
            clickhouse,
            clock,
            is_current=is_current,
            every_s=settings.reconcile_every_s,
            settle_ms=1000 * settings.reconcile_settle_s,
        )
        reads = Reads(
            UsageViews(clickhouse),
            UsageSummaries(clickhouse),
            Exports(clickhouse),
            self._reconciler,
        )
        self.servicer = UsageServicer(reads, tails, clock=clock, exports_max=settings.exports_max)

    def components(
        self, when_open: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
    ) -> tuple[Component, ...]:
        """What runs beside the sinks, each once the store is open."""
        return (
            Component("rollup", run=lambda: when_open(self._roller.run)),
            Component("retention", run=lambda: when_open(self._retention.run)),
            Component("reconciler", run=lambda: when_open(self._reconciler.run)),
        )
