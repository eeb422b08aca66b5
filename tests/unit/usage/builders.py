"""Usage events, rows and messages for the tests of the request log."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.common.events import record_of
from services.common.kafka.ports import LogMessage
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.topics import USAGE
from services.usage.adapters.usage_event import row_from_wire
from services.usage.domain.row import RequestRow

# 2026-01-31T23:59:00Z: a minute before a month ends, so that a batch easily spans two.
START_MS = 1_769_903_940_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one provider, as tests write it."""

    provider_id: str
    upstream_model: str
    http_status: int
    error_code: str
    started_at_ms: int
    latency_ms: int
    served: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUsage:
    """The content of one usage event, as tests write it; `wire` makes the message."""

    event_id: str
    usage_id: str
    request_id: str
    account_id: str
    key_id: str
    user_id: str
    trace_id: str
    worker_id: str
    route: str
    requested_model: str
    model_id: str
    provider_id: str
    upstream_model: str
    stream: bool
    outcome: int
    http_status: int
    error_code: str
    failure_stage: str
    finish_reason: str
    received_at_ms: int
    admitted_at_ms: int
    first_token_ms: int
    latency_ms: int
    quantities: Mapping[int, int]
    usage_basis: int
    price_version_id: str
    cost_nanousd: int
    grant_id: str
    held_nanousd: int
    session_id: str
    end_user_id: str
    tags: Mapping[str, str]
    attempts: tuple[Attempt, ...]


def usage(**changes: Any) -> RecordedUsage:  # Any: whatever fields a test cares about
    """A successful request of one attempt, but for what is given."""
    event = RecordedUsage(
        event_id="evt_1",
        usage_id="use_1",
        request_id="req_1",
        account_id="acc_1",
        key_id="key_1",
        user_id="usr_1",
        trace_id="a" * 32,
        worker_id="worker-1",
        route="/v1/chat/completions",
        requested_model="local/smol",
        model_id="local/smol",
        provider_id="prv_1",
        upstream_model="smol-135m",
        stream=True,
        outcome=1,
        http_status=200,
        error_code="",
        failure_stage="",
        finish_reason="stop",
        received_at_ms=START_MS,
        admitted_at_ms=START_MS + 1,
        first_token_ms=20,
        latency_ms=120,
        quantities={1: 10, 2: 4, 4: 30, 5: 5},
        usage_basis=1,
        price_version_id="pv_1",
        cost_nanousd=12_345,
        grant_id="gr_1",
        held_nanousd=20_000,
        session_id="ses_1",
        end_user_id="end_1",
        tags={"team": "blue"},
        attempts=(Attempt("prv_1", "smol-135m", 200, "", START_MS + 2, 118, True),),
    )
    return replace(event, **changes)


def row(offset: int = 0, partition: int = 0, **changes: Any) -> RequestRow:  # Any: as above
    """The row of `usage(**changes)` at that offset, with ids made of the offset."""
    ids = {"usage_id": f"use_{partition}_{offset:08d}", "request_id": f"req_{partition}_{offset}"}
    event = usage(**(ids | changes))
    at = LogMessage(USAGE.name, partition, offset, START_MS, None, None)
    return row_from_wire(event.event_id, wire(event), at)


def random_row(chance: random.Random, offset: int, **changes: Any) -> RequestRow:  # Any: as above
    """A row whose filterable fields take one of a few values each."""
    drawn: dict[str, Any] = {
        "received_at_ms": START_MS + chance.randrange(4) * 40_000,
        "model_id": chance.choice(["m1", "m2"]),
        "provider_id": chance.choice(["p1", "p2"]),
        "key_id": chance.choice(["k1", "k2"]),
        "outcome": chance.choice([1, 2, 3, 9]),
        "http_status": chance.choice([200, 402, 502]),
        "error_code": chance.choice(["", "upstream_error"]),
        "failure_stage": chance.choice(["", "balance"]),
        "session_id": chance.choice(["", "s'1"]),
        "end_user_id": chance.choice(["", "e\\1"]),
        "tags": chance.choice([{}, {"team": "blue"}, {"team": "", "env": "it's"}]),
        "trace_id": chance.choice(["", "t1"]),
        "latency_ms": chance.randrange(4) * 10,
        "cost_nanousd": chance.randrange(4) * 10,
    }
    return row(offset, **(drawn | changes))


def wire(event: RecordedUsage) -> usage_pb2.UsageRecorded:
    """The protobuf message that carries the event."""
    plain = {
        name: getattr(event, name)
        for name in RecordedUsage.__slots__
        if name not in {"event_id", "quantities", "price_version_id", "attempts", "tags"}
    }
    return usage_pb2.UsageRecorded(
        **plain,
        quantities=[
            common_pb2.TokenQuantity(kind=common_pb2.TokenKind.ValueType(kind), tokens=tokens)
            for kind, tokens in event.quantities.items()
        ],
        price=common_pb2.PriceVersion(price_version_id=event.price_version_id),
        tags=dict(event.tags),
        attempts=[
            usage_pb2.Attempt(
                provider_id=attempt.provider_id,
                upstream_model=attempt.upstream_model,
                http_status=attempt.http_status,
                error_code=attempt.error_code,
                started_at_ms=attempt.started_at_ms,
                latency_ms=attempt.latency_ms,
                served=attempt.served,
            )
            for attempt in event.attempts
        ],
    )


def envelope(event: RecordedUsage) -> bytes:
    """The bytes that the gateway writes to the topic for the event."""
    return record_of(
        wire(event),
        account_id=event.account_id,
        occurred_at_ms=event.received_at_ms + event.latency_ms,
        event_id=event.event_id,
    ).to_bytes()


def message(offset: int, value: bytes | None = None, *, partition: int = 0) -> LogMessage:
    """A message of the usage topic; without a value, that of a request whose ids are made of the
    offset.

    Every third request falls into the next month.
    """
    if value is None:
        value = envelope(
            usage(
                event_id=f"evt_{partition}_{offset}",
                usage_id=f"use_{partition}_{offset:08d}",
                request_id=f"req_{partition}_{offset}",
                received_at_ms=START_MS + (offset % 3 == 0) * DAY_MS + offset,
            )
        )
    return LogMessage(USAGE.name, partition, offset, START_MS + offset, b"acc_1", value)
