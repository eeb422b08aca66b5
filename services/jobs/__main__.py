"""`python -m services.jobs`: reads the environment, migrates, serves until SIGTERM."""

from __future__ import annotations

from services.common.config import load_settings
from services.common.ops import OpsServer
from services.common.postgres import migrate, open_pool
from services.common.runtime import Component, run, serve
from services.common.telemetry import configure_logging, configure_tracing
from services.jobs.bootstrap import compose
from services.jobs.config import JobsSettings


async def main() -> int:
    settings = load_settings(JobsSettings)
    configure_logging("jobs", settings)
    configure_tracing("jobs", settings)
    pool = await open_pool(settings.dsn.get_secret_value(), size_max=settings.pool_size_max)
    try:
        await migrate(pool, "services.jobs")
        jobs = compose(settings, pool)
        server = jobs.grpc_server()
        ops = OpsServer(settings.ops_listen, {})
        return await serve(
            "jobs",
            Component("ops", start=ops.start, run=ops.run, stop=ops.stop),
            Component("sweep", run=jobs.sweep),
            Component("grpc", start=server.start, run=server.run, stop=server.stop),
        )
    finally:
        await pool.close()


if __name__ == "__main__":
    run(main())
