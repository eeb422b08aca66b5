"""Logs, metrics and traces: configured once a process, used through plain functions."""

from services.common.telemetry.logs import configure_logging, get_logger
from services.common.telemetry.tracing import (
    Span,
    configure_tracing,
    current_trace_id,
    current_traceparent,
    shutdown_tracing,
    span,
    span_from,
    tracer,
)

__all__ = [
    "Span",
    "configure_logging",
    "configure_tracing",
    "current_trace_id",
    "current_traceparent",
    "get_logger",
    "shutdown_tracing",
    "span",
    "span_from",
    "tracer",
]
