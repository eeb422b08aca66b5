"""`python -m services.catalog`: reads the environment, migrates, seeds, serves until SIGTERM."""

from __future__ import annotations

from services.catalog.bootstrap import compose
from services.catalog.config import CatalogSettings
from services.common.config import load_settings
from services.common.kafka import KafkaProducer
from services.common.ops import OpsServer
from services.common.postgres import OutboxRelay, migrate, open_pool
from services.common.runtime import Component, run, serve
from services.common.telemetry import configure_logging, configure_tracing


async def main() -> int:
    settings = load_settings(CatalogSettings)
    configure_logging("catalog", settings)
    configure_tracing("catalog", settings)
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=settings.pool_size_max)
    try:
        await migrate(pool, "services.catalog")
        catalog = compose(settings, pool)
        server = catalog.grpc_server()
        producer = KafkaProducer(settings.kafka_bootstrap)
        relay = OutboxRelay(pool, producer)
        ready: set[str] = set()

        async def seed() -> None:
            await catalog.seed()
            ready.add("seeds")

        checks = {"seeds": lambda: "seeds" in ready, "log": lambda: producer.connected}
        ops = OpsServer(settings.ops_listen, checks)
        return await serve(
            "catalog",
            Component("ops", start=ops.start, run=ops.run, stop=ops.stop),
            Component("seeds", start=seed),
            Component("producer", start=producer.start, stop=producer.stop),
            Component("outbox", run=relay.run),
            Component("due prices", run=catalog.watch_due_prices),
            Component("grpc", start=server.start, run=server.run, stop=server.stop),
        )
    finally:
        await pool.close()


if __name__ == "__main__":
    run(main())
