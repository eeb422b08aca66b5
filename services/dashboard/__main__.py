"""Starts the dashboard: `python -m services.dashboard`."""

from __future__ import annotations

from services.common.config import load_settings
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging, configure_tracing
from services.dashboard.bootstrap import components
from services.dashboard.config import DashboardSettings


async def main() -> int:
    settings = load_settings(DashboardSettings)
    configure_logging("dashboard", settings)
    configure_tracing("dashboard", settings)
    return await serve("dashboard", *components(settings))


if __name__ == "__main__":
    run(main())
