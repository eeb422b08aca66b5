"""Messages that no consumer can take, for what becomes of them."""

from __future__ import annotations

from services.common.kafka import KafkaProducer
from services.common.topics import USAGE
from tests.e2e.stack import Stack, read_env


async def put_aside(stack: Stack, *values: bytes) -> None:
    """Writes what no consumer of usage can take: billing and the request log put each aside."""
    bootstrap = read_env(stack.data_dir / "stack.env")["MESH_KAFKA_BOOTSTRAP"]
    producer = KafkaProducer(bootstrap)
    await producer.start()
    for value in values:
        await producer.send(USAGE.name, b"acc_none", value)
    await producer.stop()
