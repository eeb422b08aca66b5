"""Puts together what serves analysts: their views, their tokens and, on the embedded engine, the
SQL endpoint. A ClickHouse server they connect to themselves.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.common.clock import SystemClock
from services.common.grpc import GrpcServer
from services.common.pb.mesh.usage.v1 import analysts_pb2_grpc
from services.common.runtime import Component
from services.common.telemetry import get_logger
from services.usage.adapters.analyst_access import Bounds, write_engine_config
from services.usage.adapters.analyst_engine import AnalystEngine
from services.usage.adapters.analyst_store_clickhouse import ClickHouseAnalystStore
from services.usage.adapters.analyst_views import base_tables, make_views
from services.usage.adapters.clickhouse import ClickHouse
from services.usage.analysts import Analysts
from services.usage.config import UsageSettings
from services.usage.entrypoints.grpc_analysts import AnalystServicer
from services.usage.entrypoints.http_sql import SqlServer

MakeStore = Callable[[UsageSettings, Path | None], ClickHouse]

_log = get_logger(__name__)


def bounds_of(settings: UsageSettings) -> Bounds:
    """What one query of an analyst may take."""
    return Bounds(
        time_s=settings.sql_timeout_s,
        memory_bytes=settings.sql_memory_bytes_max,
        result_rows=settings.sql_rows_max,
        result_bytes=settings.sql_bytes_max,
        threads=settings.sql_threads,
    )


@dataclass(slots=True)
class EngineFiles:
    """The folder with the embedded engine's configuration, which lives as long as the process."""

    settings: UsageSettings
    folder: Path | None = field(default=None)

    @property
    def is_needed(self) -> bool:
        """Whether analysts query the embedded engine."""
        embedded = self.settings.clickhouse_dsn.get_secret_value().startswith("chdb:")
        return embedded and self.settings.sql_listen is not None

    def config(self) -> Path | None:
        """The file for the engine; None where no analyst queries it."""
        if not self.is_needed:
            return None
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-usage-"))
        return write_engine_config(
            self.folder,
            base=self.settings.clickhouse_database,
            tables=base_tables(),
            database=self.settings.sql_database,
        )

    def remove(self) -> None:
        """Deletes the folder."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class AnalystParts:
    """The parts, and the store that they are made for. Nothing is open until `open` is called,
    once the store is.
    """

    def __init__(self, settings: UsageSettings, store_of: MakeStore) -> None:
        self._settings = settings
        self._files = files = EngineFiles(settings)
        self.clickhouse = clickhouse = store_of(settings, files.config())
        store = ClickHouseAnalystStore(
            clickhouse, database=settings.sql_database, bounds=bounds_of(settings)
        )
        self.analysts = Analysts(store, SystemClock())
        self.engine: AnalystEngine | None = None
        self.server: SqlServer | None = None
        if files.is_needed and settings.sql_listen:
            self.engine = AnalystEngine(
                clickhouse.engine_address(),
                base=clickhouse.database,
                database=settings.sql_database,
                bounds=bounds_of(settings),
                queries=settings.sql_queries,
            )
            self.server = SqlServer(
                settings.sql_listen,
                engine=self.engine,
                analysts=self.analysts,
                database=settings.sql_database,
            )

    def serve_on(self, server: GrpcServer) -> None:
        """Adds the gRPC service."""
        server.reflect("mesh.usage.v1.AnalystService")
        analysts_pb2_grpc.add_AnalystServiceServicer_to_server(
            AnalystServicer(self.analysts), server.grpc
        )

    async def open(self) -> None:
        """Makes the views and lets analysts in."""
        made = await make_views(
            self.clickhouse,
            database=self._settings.sql_database,
            as_views_user=self._files.is_needed,
        )
        await self.analysts.open()
        if self.engine is not None:
            await self.engine.open()
        _log.info("analysts may query", views=made)

    async def close_store(self) -> None:
        """Ends the queries that run and lets go of the store."""
        if self.engine is not None:
            await self.engine.close()
        await self.clickhouse.close()
        self._files.remove()

    def components(self) -> tuple[Component, ...]:
        """What the runtime starts and stops."""
        if self.server is None:
            return ()
        return (Component("sql", start=self.server.start, stop=self.server.stop),)
