"""`python -m services.usage.live`: serves until SIGTERM."""

from __future__ import annotations

from services.common.config import load_settings
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging, configure_tracing
from services.usage.alerts.bootstrap import open_store
from services.usage.live.bootstrap import build
from services.usage.live.config import LiveSettings


async def main() -> int:
    """The exit code of the process."""
    settings = load_settings(LiveSettings)
    configure_logging("usage-live", settings)
    configure_tracing("usage-live", settings)
    pool = await open_store(settings.dsn.get_secret_value()) if settings.dsn else None
    process = build(settings, pool=pool)
    return await serve("usage-live", *process.components)


if __name__ == "__main__":
    run(main())
