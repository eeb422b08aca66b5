"""`python -m services.billing`: reads the environment, migrates, serves until SIGTERM."""

from __future__ import annotations

from services.billing.bootstrap import compose
from services.billing.config import BillingSettings
from services.common.config import load_settings
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging, configure_tracing


async def main() -> int:
    """The life of one billing process; the exit code."""
    settings = load_settings(BillingSettings)
    configure_logging("billing", settings)
    configure_tracing("billing", settings)
    billing = await compose(settings)
    return await serve("billing", *billing.components)


if __name__ == "__main__":
    run(main())
