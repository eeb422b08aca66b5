"""`mesh topics`: the table of topics, as a list and as topics on a broker."""

from __future__ import annotations

import asyncio
import logging
import sys

from cyclopts import App

from services.cli.admin.common import Options
from services.cli.context import CliError, environment
from services.cli.output import Row, show_rows
from services.common.kafka.admin import create_topics
from services.common.topics import TOPICS

app = App(name="topics", help="The topics on Kafka.")


@app.command(name="list")
def list_topics(*, options: Options = Options()) -> None:
    """The table of topics: key, partitions, retention, who writes and who reads."""
    rows: list[Row] = [
        {
            "topic": t.name,
            "key": t.key,
            "partitions": t.partitions,
            "cleanup": t.cleanup,
            "retention_ms": t.retention_ms,
            "written_by": list(t.producers),
            "read_by": list(t.consumers),
        }
        for t in TOPICS
    ]
    show_rows(rows, as_json=options.json)


@app.command
def create() -> None:
    """Creates the topics that are missing on the broker that MESH_KAFKA_BOOTSTRAP names."""
    bootstrap = environment().get("MESH_KAFKA_BOOTSTRAP")
    if not bootstrap:
        raise CliError("MESH_KAFKA_BOOTSTRAP is not set")
    # What is wrong comes as an error; the client's own lines would say it twice.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asyncio.run(create_topics(bootstrap))
    print(f"topics: {len(TOPICS)} are there", file=sys.stderr)
