"""Structured logs: one JSON object (or one console line) an event, with the service, the trace id
and no secrets.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

import structlog

from services.common.security.secret_text import OURS, THEIRS
from services.common.telemetry.tracing import current_trace_id

MASK = "[redacted]"
_SECRETS = re.compile(
    rf"{OURS}|{THEIRS}"
    r"|\bsk-[A-Za-z0-9_\-]{4,}"
    r"|\b[sr]k_(?:live|test)_[A-Za-z0-9]{4,}"
    r"|(?<=[Bb]earer )[^\s\"',]+"
)
_DEPTH_MAX = 6
NOISY = ("aiokafka", "grpc")
REPEAT_EVERY_S = 10.0
_REMEMBERED_MAX = 1000

# structlog's own type for the dictionary of an event; values are whatever was logged.
EventDict = MutableMapping[str, Any]
Logger = structlog.stdlib.BoundLogger


class LogSettings(Protocol):
    """The two settings of logging, as `CommonSettings` has them."""

    @property
    def log_level(self) -> str: ...

    @property
    def log_format(self) -> str: ...


def redact(value: object, depth: int = 0) -> object:
    """The value with every secret in every string of it masked; containers are copied where they
    are changed.
    """
    if isinstance(value, str):
        return _SECRETS.sub(MASK, value)
    if isinstance(value, bytes):
        return _SECRETS.sub(MASK, value.decode("utf-8", "replace"))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth >= _DEPTH_MAX:
        return MASK
    if isinstance(value, Mapping):
        return {redact(key, depth + 1): redact(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item, depth + 1) for item in value]
    return _SECRETS.sub(MASK, str(value))


def _redact_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        event[name] = redact(value)
    return event


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    trace_id = current_trace_id()
    if trace_id:
        event.setdefault("trace_id", trace_id)
    return event


def configure_logging(service: str, settings: LogSettings) -> None:
    """Sends the logs of this process, the libraries' included, to standard error in the format of
    the settings.
    """

    def add_service(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        _add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    handler.addFilter(RepeatFilter())
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


class RepeatFilter(logging.Filter):
    """Lets the same message of a noisy library through once in a while.

    They report every attempt to reconnect, several a second, for as long as an outage lasts.
    """

    def __init__(self, every_s: float = REPEAT_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._last_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False where this message was let through less than the interval ago."""
        if not record.name.startswith(NOISY):
            return True
        key = (record.name, str(record.msg))
        last_s = self._last_s.get(key)
        if last_s is not None and record.created - last_s < self._every_s:
            return False
        if len(self._last_s) >= _REMEMBERED_MAX:
            self._last_s.clear()
        self._last_s[key] = record.created
        return True


def get_logger(name: str = "mesh") -> Logger:
    """The logger of a module; keyword arguments become fields."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger
