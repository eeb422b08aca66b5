"""`mesh dlq` as a process, against a service's operations over gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.config import DEVELOPMENT_SECRET
from services.common.consumers import ConsumerWatch
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka import DeadLetters, LogMessage
from services.common.kafka.memory import MemoryArchive, MemoryGroups, MemoryLog, MemoryProducer
from services.common.operations import POLICIES, OperationsServicer
from services.common.put_aside import DeadLetterDesk
from services.common.topics import BILLING_DEAD, USAGE
from tests.integration.cli.test_command import mesh, stack_at


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def stack(log: MemoryLog) -> AsyncIterator[dict[str, str]]:
    """The variables of a stack whose billing has put one message aside."""
    producer = MemoryProducer(log)
    await producer.start()
    letters = DeadLetters(producer, consumer="billing", topic=BILLING_DEAD)
    await letters.put(LogMessage(USAGE.name, 1, 7, 1, b"acc_1", b"not an event"), "no envelope")
    server = GrpcServer(
        listen="127.0.0.1:0", verifier=TokenVerifier(DEVELOPMENT_SECRET), policies=POLICIES
    )
    desk = DeadLetterDesk(MemoryArchive(log), producer, dead=BILLING_DEAD, clock=SystemClock())
    OperationsServicer(ConsumerWatch(MemoryGroups(log)), desk).serve_on(server)
    await server.start()
    yield stack_at(server.port)
    await server.stop(0.0)


async def test_a_letter_is_listed_opened_and_discarded_with_a_reason(
    tmp_path: Path, stack: dict[str, str], log: MemoryLog
) -> None:
    listed = await mesh(tmp_path, "dlq", "list", "--json", **stack)
    [row] = [json.loads(line) for line in listed.out.splitlines()]
    assert (row["position"], row["status"], row["from"], row["why"]) == (
        0, "open", "mesh.usage.v1/1:7", "no envelope",
    )  # fmt: skip
    opened = json.loads((await mesh(tmp_path, "dlq", "show", "0", "--json", **stack)).out)
    assert (opened["preview"], opened["event"]) == ("not an event", "")
    done = await mesh(tmp_path, "dlq", "discard", "0", "--reason", "a test", "--json", **stack)
    row = json.loads(done.out)
    assert (row["status"], row["decided_by"], row["decision_reason"]) == (
        "discarded", "operator", "a test",
    )  # fmt: skip
    nothing = await mesh(tmp_path, "dlq", "list", "--status", "open", **stack)
    assert (nothing.code, nothing.out) == (0, "")
    assert "nothing was put aside" in nothing.err
    assert log.messages(USAGE.name) == []


async def test_a_letter_is_sent_again_and_one_that_is_not_there_is_a_sentence(
    tmp_path: Path, stack: dict[str, str], log: MemoryLog
) -> None:
    sent = json.loads((await mesh(tmp_path, "dlq", "retry", "0", "--json", **stack)).out)
    assert sent["topic"] == USAGE.name
    assert [one.value for one in log.messages(USAGE.name)] == [b"not an event"]
    missing = await mesh(tmp_path, "dlq", "discard", "9", "--reason", "a test", **stack)
    assert missing.sentence == "there is no such dead letter"
