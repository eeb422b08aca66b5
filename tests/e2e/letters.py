"""Messages that no consumer can take, for what becomes of them."""

from __future__ import annotations

from services.common.events import record_of
from services.common.kafka import KafkaProducer
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.topics import USAGE
from tests.e2e.stack import Stack, read_env

AT_MS = 1_700_000_000_000


async def put_aside(stack: Stack, *values: bytes) -> None:
    """Writes what no consumer of usage can take: billing and the request log put each aside."""
    bootstrap = read_env(stack.data_dir / "stack.env")["MESH_KAFKA_BOOTSTRAP"]
    producer = KafkaProducer(bootstrap)
    await producer.start()
    for value in values:
        await producer.send(USAGE.name, b"acc_none", value)
    await producer.stop()


def of_another_topic(secret: str) -> bytes:
    """An event that can be decoded, and that no consumer of usage takes. It holds the secret."""
    state = accounts_pb2.KeyState(
        key_hash="0f" * 32, key_id="key_01KDVDQ3G0AAAAAAAAAAAAAA01", account_id="acc_none",
        user_id="usr_01KDVDQ3G0AAAAAAAAAAAAAA01", version=3,
        settings=accounts_pb2.KeySettings(label=f"the key {secret} of Ada", rpm_limit=60),
    )  # fmt: skip
    return record_of(state, account_id="acc_none", occurred_at_ms=AT_MS).to_bytes()
