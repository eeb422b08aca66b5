"""The stores of the embedded stack as real processes: start, crash, start again."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.local.kafka import KafkaNode
from deploy.local.layout import socket_dir_fits
from deploy.local.postgres import PostgresNode, private_socket_dir
from deploy.local.problems import StackProblem
from deploy.local.processes import child_options
from services.common.kafka.admin import create_topics
from services.common.topics import KEYS
from tests.fixtures.engines import unused_port


async def write(bootstrap: str, value: bytes) -> int:
    """The offset of one message that all replicas acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        written = await producer.send_and_wait(KEYS.name, value, key=b"k", partition=0)
        return int(written.offset)
    finally:
        await producer.stop()


async def read_first(bootstrap: str) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partition = TopicPartition(KEYS.name, 0)
        consumer.assign([partition])
        async with asyncio.timeout(30):
            return bytes((await consumer.getone()).value)
    finally:
        await consumer.stop()


async def test_a_killed_broker_has_what_it_acknowledged(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path / "kafka", unused_port(), unused_port())
    node.start()
    try:
        await create_topics(node.bootstrap, [KEYS])
        assert await write(node.bootstrap, b"first") == 0
        node.kill()
        assert not node.answers()
        node.start()
        assert await read_first(node.bootstrap) == b"first"
        assert await write(node.bootstrap, b"second") == 1
    finally:
        node.stop()


def test_a_broker_on_a_taken_port_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        node = KafkaNode(tmp_path / "kafka", port, unused_port())
        with pytest.raises(StackProblem, match=rf"Port {port} \(Kafka\) is in use"):
            node.start()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresNode]:
    node = PostgresNode(tmp_path / "data", private_socket_dir(tmp_path / "run"))
    node.start()
    yield node
    node.stop()


async def test_a_killed_server_has_what_was_committed(postgres: PostgresNode) -> None:
    await postgres.ensure_databases("accounts", "billing")
    connection = await asyncpg.connect(postgres.dsn("accounts"))
    await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (42)")
    await connection.close()
    postgres.kill()
    _start_again(postgres)
    await postgres.ensure_databases("accounts", "billing", "catalog")
    connection = await asyncpg.connect(postgres.dsn("accounts"))
    assert await connection.fetchval("SELECT n FROM t") == 42
    await connection.close()


def _start_again(node: PostgresNode) -> None:
    # The killed server's own children may still hold the shared memory for a moment.
    for _ in range(5):
        try:
            node.start()
        except StackProblem:
            continue
        return
    node.start()


async def test_services_are_no_superusers_but_may_take_on_the_roles_they_make(
    postgres: PostgresNode,
) -> None:
    await postgres.ensure_databases("accounts")
    connection = await asyncpg.connect(postgres.dsn("accounts"))
    try:
        assert await connection.fetchval("SHOW is_superuser") == "off"
        await connection.execute("CREATE ROLE tenant NOLOGIN; SET ROLE tenant")
        assert await connection.fetchval("SELECT current_user") == "tenant"
    finally:
        await connection.close()


def test_a_clone_in_a_deep_folder_gets_a_short_socket_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("very-long-name" * 8) / "run"
    assert not socket_dir_fits(deep)
    short = private_socket_dir(deep)
    try:
        assert socket_dir_fits(short)
        assert short.stat().st_mode & 0o777 == 0o700
        node = PostgresNode(deep.parent / "data", short)
        node.start()
        node.stop()
    finally:
        short.rmdir()


@pytest.fixture
def memory_log(tmp_path: Path) -> Iterator[str]:
    """The address of a memory-only log."""
    address = tmp_path / "address"
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local.kafka_memory", str(address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        **child_options(signal.SIGKILL),
    ) as broker:
        assert broker.stdout is not None
        # It says so once the address is written.
        assert broker.stdout.readline().startswith("memory-only log at")
        yield address.read_text()
        broker.terminate()
    assert broker.returncode == 0


async def test_the_memory_only_log_takes_and_gives_messages(memory_log: str) -> None:
    assert await write(memory_log, b"kept for now") == 0
    assert await read_first(memory_log) == b"kept for now"
