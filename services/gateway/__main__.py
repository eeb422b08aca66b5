"""`python -m services.gateway`: one worker; reads the environment, serves until SIGTERM, drains."""

from __future__ import annotations

from services.common.config import load_settings
from services.common.runtime import run, serve
from services.common.telemetry import configure_logging, configure_tracing
from services.gateway.bootstrap import compose
from services.gateway.config import GatewaySettings


async def main() -> int:
    """The life of one worker; the exit code."""
    settings = load_settings(GatewaySettings)
    configure_logging("gateway", settings)
    configure_tracing("gateway", settings)
    gateway = await compose(settings)
    return await serve("gateway", *gateway.components, grace_s=gateway.grace_s)


if __name__ == "__main__":
    run(main())
