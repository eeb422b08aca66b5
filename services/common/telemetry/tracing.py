"""Traces: W3C trace context through HTTP, gRPC and Kafka, exported by OpenTelemetry where an
exporter is set.

Without an exporter ids are still made and passed on, by a dozen lines of our own instead of the
SDK's, so that logs, events and request-log rows always carry a trace id and an untraced request
pays next to nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

AttributeValue = str | int | float | bool
SpanKind = Literal["internal", "server", "client", "producer", "consumer"]

OTLP_PATH = "/v1/traces"

_random = random.SystemRandom()
_fast = random.Random(_random.getrandbits(64))  # noqa: S311 - ids of traces are no secrets
_propagator = TraceContextTextMapPropagator()


class TraceSettings(Protocol):
    """The settings of tracing, as `CommonSettings` has them."""

    @property
    def trace_exporter(self) -> str: ...

    @property
    def trace_file(self) -> Path | None: ...

    @property
    def otlp_endpoint(self) -> str: ...


class Span(Protocol):
    """One timed step of a trace."""

    @property
    def traceparent(self) -> str:
        """The W3C header value that makes another step a child of this one."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""

    def set(self, name: str, value: AttributeValue) -> None:
        """Adds an attribute; never a secret, never a prompt."""

    def fail(self, reason: str) -> None:
        """Marks the step as failed."""


class LightSpan:
    """A span that only carries its ids."""

    __slots__ = ("flags", "span_id", "trace_id")

    def __init__(self, trace_id: str, flags: str) -> None:
        self.trace_id = trace_id
        self.span_id = f"{_fast.getrandbits(64) or 1:016x}"
        self.flags = flags

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def set(self, name: str, value: AttributeValue) -> None:
        """Nothing is exported, so nothing is kept."""

    def fail(self, reason: str) -> None:
        """Nothing is exported, so nothing is kept."""


class OtelSpan:
    """A span of the OpenTelemetry SDK."""

    __slots__ = ("_span",)

    def __init__(self, otel: trace.Span) -> None:
        self._span = otel

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def set(self, name: str, value: AttributeValue) -> None:
        self._span.set_attribute(name, value)

    def fail(self, reason: str) -> None:
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, reason))


_current: ContextVar[Span | None] = ContextVar("mesh_span", default=None)


# A span of this process, or a traceparent; one that is none begins a new trace.
Parent = str | Span


class Tracer(Protocol):
    """Makes spans; which kind depends on the exporter."""

    def start(
        self, name: str, parent: Parent, attributes: Mapping[str, AttributeValue], *, kind: SpanKind
    ) -> Span: ...

    def end(self, span: Span) -> None: ...


class LightTracer:
    """Makes spans that only carry their ids."""

    def start(
        self, name: str, parent: Parent, attributes: Mapping[str, AttributeValue], *, kind: SpanKind
    ) -> Span:
        del name, attributes, kind
        if isinstance(parent, LightSpan):
            return LightSpan(parent.trace_id, parent.flags)
        known = parse_traceparent(_as_traceparent(parent))
        if known is None:
            return LightSpan(f"{_fast.getrandbits(128) or 1:032x}", "00")
        return LightSpan(known[0], known[2])

    def end(self, span: Span) -> None:
        """There is nothing to export."""


class OtelTracer:
    """Makes spans of the OpenTelemetry SDK and hands them to its exporter in batches."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mesh")

    def start(
        self, name: str, parent: Parent, attributes: Mapping[str, AttributeValue], *, kind: SpanKind
    ) -> Span:
        traceparent = _as_traceparent(parent)
        known = parse_traceparent(traceparent) is not None
        context = _propagator.extract({"traceparent": traceparent}) if known else None
        return OtelSpan(
            self._tracer.start_span(
                name,
                context=context,
                attributes=dict(attributes),
                kind=trace.SpanKind[kind.upper()],
            )
        )

    def end(self, span: Span) -> None:
        assert isinstance(span, OtelSpan)
        span._span.end()

    def shutdown(self) -> None:
        self._provider.shutdown()


class _State:
    """The tracer of this process."""

    tracer: Tracer = LightTracer()


def configure_tracing(service: str, settings: TraceSettings) -> None:
    """Sets the exporter of this process; call once, before the first span, and `shutdown_tracing`
    at the end.
    """
    shutdown_tracing()
    match settings.trace_exporter:
        case "file":
            from services.common.telemetry.trace_file import JsonLinesExporter

            assert settings.trace_file is not None
            _State.tracer = OtelTracer(service, JsonLinesExporter(settings.trace_file))
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            endpoint = settings.otlp_endpoint.rstrip("/")
            if not endpoint.endswith(OTLP_PATH):
                endpoint += OTLP_PATH
            _State.tracer = OtelTracer(service, OTLPSpanExporter(endpoint=endpoint))
        case _:
            _State.tracer = LightTracer()


def shutdown_tracing() -> None:
    """Sends what is not yet exported and goes back to exporting nothing. Blocks for the exporter's
    time limit.
    """
    before, _State.tracer = _State.tracer, LightTracer()
    if isinstance(before, OtelTracer):
        before.shutdown()


def tracer() -> Tracer:
    """The tracer of this process, for spans that do not nest; `span` and `span_from` serve the
    others.
    """
    return _State.tracer


def is_exporting() -> bool:
    """True where spans go somewhere, so that work done only for them is worth it."""
    return isinstance(_State.tracer, OtelTracer)


def current_traceparent() -> str:
    """The W3C trace context of the current span, "" outside of one."""
    active = _current.get()
    return "" if active is None else active.traceparent


def current_trace_id() -> str:
    """32 hexadecimal digits, "" outside of a span."""
    active = _current.get()
    return "" if active is None else active.trace_id


def parse_traceparent(text: str) -> tuple[str, str, str] | None:
    """Trace id, span id and flags of a W3C traceparent; None where it is not one."""
    if not text:
        return None
    parts = text.strip().split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    try:
        numbers = [int(part, 16) for part in parts[:4]]
    except ValueError:
        return None
    if parts[0] == "ff" or not numbers[1] or not numbers[2] or text.lower() != text:
        return None
    return parts[1], parts[2], parts[3]


class SpanBlock:
    """A block in which a new span is the current one."""

    __slots__ = ("_attributes", "_before", "_kind", "_maker", "_name", "_parent", "_span")

    def __init__(
        self,
        parent: Parent,
        name: str,
        attributes: Mapping[str, AttributeValue] | None,
        *,
        kind: SpanKind,
    ) -> None:
        self._parent = parent
        self._name = name
        self._attributes = attributes
        self._kind = kind

    def __enter__(self) -> Span:
        self._maker = _State.tracer
        new = self._maker.start(self._name, self._parent, self._attributes or {}, kind=self._kind)
        # Not reset by a token: a block may be left in another context than it was entered in.
        self._before = _current.get()
        _current.set(new)
        self._span = new
        return new

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._span.fail(kind.__name__)
        _current.set(self._before)
        self._maker.end(self._span)


def span_from(
    traceparent: str,
    name: str,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    kind: SpanKind = "server",
) -> SpanBlock:
    """A span that continues the trace of `traceparent` (a new trace where it is none) and is
    current inside.
    """
    return SpanBlock(traceparent, name, attributes, kind=kind)


def span(
    name: str,
    attributes: Mapping[str, AttributeValue] | None = None,
    kind: SpanKind = "internal",
) -> SpanBlock:
    """A child of the current span (a new trace where there is none), current inside."""
    return SpanBlock(_current.get() or "", name, attributes, kind=kind)


def _as_traceparent(parent: Parent) -> str:
    return parent if isinstance(parent, str) else parent.traceparent
