"""Logs without secrets, traces that go on across processes, and the file exporter."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import structlog
from aiohttp import web

from services.common.telemetry import (
    configure_logging,
    configure_tracing,
    current_trace_id,
    current_traceparent,
    get_logger,
    shutdown_tracing,
    span,
    span_from,
)
from services.common.telemetry.logs import MASK, RepeatFilter, redact
from services.common.telemetry.tracing import parse_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True, slots=True)
class Settings:
    log_level: str = "info"
    log_format: str = "json"
    trace_exporter: str = "none"
    trace_file: Path | None = None
    otlp_endpoint: str = ""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    shutdown_tracing()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key rsk_01JABCDEF end", f"key {MASK} end"),
        ("mak_01JABCDEF", MASK),
        ("an analyst's mas_01JABCDEF", f"an analyst's {MASK}"),
        (f"invited by min_{'x' * 43}", f"invited by {MASK}"),
        ("schemas_of min_cost_nanousd", "schemas_of min_cost_nanousd"),
        (f"AIza{'x' * 30}", MASK),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {MASK}"),
        ("use sk-proj-abc123", f"use {MASK}"),
        ("sk_test_51HabcDEF", MASK),
        ("whsec_abcdef", MASK),
        ("a task-list of desk-tops", "a task-list of desk-tops"),
    ],
)
def test_secrets_are_masked(text: str, left: str) -> None:
    assert redact(text) == left


def test_secrets_are_masked_wherever_they_are() -> None:
    class Holder:
        def __repr__(self) -> str:
            return "Holder(rsk_01JABCDEF)"

    found = redact({"a": ["x", {"rsk_01JABCDEF": b"mak_01JABCDEF"}], "b": Holder(), "n": 3})
    assert "01JABCDEF" not in repr(found)
    assert isinstance(found, dict)
    assert found["n"] == 3


def test_a_log_line_is_json_with_service_trace_and_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("billing", Settings())
    with span("work") as current:
        get_logger("x").info("hello", key="rsk_01JABCDEF", amount_nanousd=5)
        logging.getLogger("library").warning("from %s", "Bearer abcdef")
        try:
            raise ValueError("sk-12345678")
        except ValueError:
            get_logger("x").exception("failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["hello", f"from Bearer {MASK}", "failed"]
    assert lines[0]["service"] == "billing"
    assert lines[0]["key"] == MASK
    assert lines[0]["amount_nanousd"] == 5
    assert all(line["trace_id"] == current.trace_id for line in lines)
    assert "ValueError" in lines[2]["exception"]
    assert "12345678" not in lines[2]["exception"]


def test_the_log_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("billing", Settings(log_level="warning", log_format="console"))
    get_logger("x").info("quiet")
    get_logger("x").warning("loud")
    told = capsys.readouterr().err
    assert "loud" in told
    assert "quiet" not in told


def test_without_an_exporter_ids_are_made_and_passed_on() -> None:
    assert (current_traceparent(), current_trace_id()) == ("", "")
    with span_from(PARENT, "server") as outer:
        assert outer.trace_id == "0af7651916cd43dd8448eb211c80319c"
        assert outer.traceparent != PARENT
        assert outer.traceparent.endswith("-01")
        with span("inner") as inner:
            assert inner.trace_id == outer.trace_id
            assert current_traceparent() == inner.traceparent
        assert current_traceparent() == outer.traceparent
    with span("alone") as alone:
        assert parse_traceparent(alone.traceparent) is not None


@pytest.mark.parametrize(
    "text",
    [
        "", "x", PARENT[:-3], PARENT.upper(), "ff" + PARENT[2:], PARENT.replace("b7ad", "zzzz"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_starts_a_new_trace(text: str) -> None:
    assert parse_traceparent(text) is None
    with span_from(text, "server") as current:
        assert current.trace_id != "0af7651916cd43dd8448eb211c80319c"


def test_the_file_exporter_writes_one_span_a_line(tmp_path: Path) -> None:
    path = tmp_path / "traces" / "spans.jsonl"
    configure_tracing("gateway", Settings(trace_exporter="file", trace_file=path))
    with span_from(PARENT, "request", {"tokens": 3}) as outer:
        with pytest.raises(ZeroDivisionError), span("step"):
            raise ZeroDivisionError
        with span("other", kind="client"):
            traceparent = current_traceparent()
    shutdown_tracing()
    rows = {row["name"]: row for row in map(orjson.loads, path.read_bytes().splitlines())}
    assert set(rows) == {"request", "step", "other"}
    request = rows["request"]
    assert request["trace_id"] == outer.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert request["parent"] == "b7ad6b7169203331"
    assert request["service"] == "gateway"
    assert request["attributes"] == {"tokens": 3}
    assert request["start"] <= request["end"]
    assert rows["step"]["parent"] == request["span_id"]
    assert rows["step"]["status"] == "error"
    assert (rows["other"]["status"], rows["other"]["kind"]) == ("unset", "client")
    assert rows["other"]["span_id"] in traceparent


def test_a_noisy_library_says_the_same_only_once_in_a_while() -> None:
    repeats = RepeatFilter(every_s=10)

    def passes(name: str, message: str, at_s: float) -> bool:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, None, None)
        record.created = at_s
        return repeats.filter(record)

    assert passes("aiokafka.client", "away", 0)
    assert not passes("aiokafka.client", "away", 9)
    assert passes("aiokafka.client", "another", 9)
    assert passes("aiokafka.client", "away", 11)
    assert passes("services.billing", "away", 0)
    assert passes("services.billing", "away", 0)


async def test_spans_are_sent_to_a_collector_over_http() -> None:
    received: list[tuple[str, bytes]] = []

    async def collect(request: web.Request) -> web.Response:
        received.append((request.path, await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    configure_tracing("gateway", Settings(trace_exporter="otlp", otlp_endpoint=endpoint))
    with span("sent to the collector"):
        pass
    await asyncio.to_thread(shutdown_tracing)
    await runner.cleanup()
    ((path, _),) = received
    assert path == "/v1/traces"
