"""The worker's knowledge put together: tables, their readers, credentials, freshness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.common.clock import Clock
from services.common.kafka.table_reader import OnMessage, TableReader
from services.common.topics import KEYS, MODELS, TEMPLATES, Topic
from services.gateway.state.credentials import CredentialKeeper, CredentialSource
from services.gateway.state.freshness import LogFreshness, TableSource
from services.gateway.state.tables import CatalogueTable, KeyTable
from services.gateway.state.templates import TemplateTable

STALE_MAX_S = 60.0
ReaderFactory = Callable[[Topic, OnMessage], TableSource]


def kafka_readers(bootstrap: str) -> ReaderFactory:
    """Readers of this Kafka."""

    def reader(topic: Topic, on_message: OnMessage) -> TableSource:
        return TableReader(bootstrap=bootstrap, topic=topic, on_message=on_message)

    return reader


class GatewayState:
    """Keys, catalogue, templates and how fresh they are. Create it inside a running loop."""

    def __init__(
        self,
        readers: ReaderFactory,
        credentials: CredentialSource,
        *,
        clock: Clock,
        stale_max_s: float = STALE_MAX_S,
    ) -> None:
        self.keys = KeyTable()
        self.catalogue = CatalogueTable()
        self.templates = TemplateTable()
        self.credentials = CredentialKeeper(credentials, self.catalogue.refresh, clock=clock)
        self.catalogue.use(self.credentials)
        self._tables = {
            "keys": readers(KEYS, self.keys.apply),
            "models": readers(MODELS, self.catalogue.apply),
            "templates": readers(TEMPLATES, self.templates.apply),
        }
        self.freshness = LogFreshness(self._tables, clock=clock, limit_s=stale_max_s)

    async def wait_ready(self) -> None:
        """Returns when every topic was read to its end."""
        for table in self._tables.values():
            await table.ready.wait()

    async def run(self) -> None:
        """Reads until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for table in self._tables.values():
                tasks.create_task(table.run())
            tasks.create_task(self.credentials.run())
