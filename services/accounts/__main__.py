"""`python -m services.accounts`: reads the environment, migrates, serves until SIGTERM."""

from __future__ import annotations

from services.accounts.bootstrap import bootstrap
from services.accounts.config import AccountsSettings
from services.common.config import load_settings
from services.common.kafka import KafkaProducer
from services.common.postgres import migrate, open_pool
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging, configure_tracing

SERVICE = "accounts"


async def main() -> int:
    """The exit code of the process."""
    settings = load_settings(AccountsSettings)
    configure_logging(SERVICE, settings)
    configure_tracing(SERVICE, settings)
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=settings.pool_size_max)
    try:
        await migrate(pool, "services.accounts")
        producer = KafkaProducer(settings.kafka_bootstrap, client_id=f"mesh-{SERVICE}")
        service = bootstrap(settings, pool, producer)
        return await serve(SERVICE, *service.components, grace_s=settings.drain_s + 10)
    finally:
        await pool.close()


if __name__ == "__main__":
    run(main())
