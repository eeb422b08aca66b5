"""A message that is pumped continues the trace of whoever sent it, where traces are exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from services.common.events import record_of
from services.common.kafka import Batch, LogMessage
from services.common.kafka.traces import consumer_spans
from services.common.pb.mesh.events.v1 import accounts_pb2
from services.common.telemetry import configure_tracing, shutdown_tracing, span


def batch_with_a_trace() -> tuple[Batch, str]:
    with span("the request") as request:
        record = record_of(
            accounts_pb2.PasswordChanged(user_id="usr_1"), account_id="acc_1", occurred_at_ms=1
        )
    message = LogMessage("mesh.accounts.v1", 0, 7, 1, b"acc_1", record.to_bytes())
    junk = LogMessage("mesh.accounts.v1", 0, 8, 1, b"acc_1", b"\xff")
    return Batch("mesh.accounts.v1", 0, 1, (message, junk)), request.trace_id


def test_a_batch_leaves_one_span_a_traced_message(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    settings = SimpleNamespace(trace_exporter="file", trace_file=file, otlp_endpoint="")
    configure_tracing("billing", settings)
    try:
        batch, trace_id = batch_with_a_trace()
        with consumer_spans(batch, "billing"):
            pass
    finally:
        shutdown_tracing()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    [found] = [row for row in rows if row["name"] == "billing mesh.accounts.v1"]
    assert (found["trace_id"], found["service"]) == (trace_id, "billing")
    assert found["attributes"]["offset"] == 7


def test_nothing_is_decoded_where_traces_go_nowhere() -> None:
    class Untouchable(Sequence[LogMessage]):
        def __getitem__(self, index: object) -> LogMessage:  # type: ignore[override]  # never called
            raise AssertionError("a message was looked at")

        def __len__(self) -> int:
            return 1

    batch = SimpleNamespace(messages=Untouchable(), topic="t", partition=0)
    with consumer_spans(batch, "billing"):  # type: ignore[arg-type]  # a batch that cannot be read
        pass
