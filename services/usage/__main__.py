"""`python -m services.usage`: serves until SIGTERM."""

from __future__ import annotations

from services.common.config import load_settings
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging, configure_tracing
from services.usage.bootstrap import build
from services.usage.bootstrap_sinks import GC_THRESHOLD
from services.usage.config import UsageSettings


async def main() -> int:
    """The exit code of the process."""
    settings = load_settings(UsageSettings)
    configure_logging("usage", settings)
    configure_tracing("usage", settings)
    service = build(settings)
    return await serve("usage", *service.components, gc_threshold=GC_THRESHOLD)


if __name__ == "__main__":
    run(main())
