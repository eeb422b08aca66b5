"""From a message of the usage topic to the row it makes; protobuf stops here.

Each request of every customer passes through here, so fields are taken out in three gulps
(`attrgetter` reads a dozen in one call) and no object is made between the message and the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from services.common.events import UndecodableEvent, message_of_type
from services.common.kafka import LogMessage
from services.common.money import TokenKind
from services.common.pb.mesh.events.v1 import usage_pb2
from services.usage.domain.row import TOKEN_COLUMNS, RequestRow, checked
from services.usage.domain.usage import OUTCOMES, USAGE_BASES, BadUsage, name_of

_VERSION_MAX = 1
_EVENT_TYPE = "gateway.UsageRecorded"
# What the row takes over as it is, in the row's order.
_WHO = attrgetter(
    "account_id",
    "received_at_ms",
    "usage_id",
    "request_id",
    "key_id",
    "user_id",
    "trace_id",
    "worker_id",
)
_WHAT = attrgetter(
    "route", "requested_model", "model_id", "provider_id", "upstream_model", "stream"
)
_HOW = attrgetter("http_status", "error_code", "failure_stage", "finish_reason")
_MONEY = attrgetter(
    "price.price_version_id",
    "cost_nanousd",
    "grant_id",
    "held_nanousd",
    "session_id",
    "end_user_id",
)
_ATTEMPT = attrgetter(
    "provider_id",
    "upstream_model",
    "http_status",
    "error_code",
    "started_at_ms",
    "latency_ms",
    "served",
)
_NO_ATTEMPTS = ((),) * 7
# Which of the columns of tokens a kind has.
_COLUMN_OF_KIND = {
    int(TokenKind[column.removeprefix("tokens_").upper()]): number
    for number, column in enumerate(TOKEN_COLUMNS)
}
_NO_TOKENS = [0] * len(TOKEN_COLUMNS)
# Shared by all rows that have no kind without a column, and never changed.
_NO_OTHER: dict[int, int] = {}


def row_from_message(message: LogMessage) -> RequestRow:
    """The row of a message. Raises UndecodableEvent where it is no usage event or cannot be a
    row.
    """
    event_id, wire = message_of_type(
        message.value, usage_pb2.UsageRecorded, event_type=_EVENT_TYPE, version_max=_VERSION_MAX
    )
    try:
        return row_from_wire(event_id, wire, message)
    except BadUsage as error:
        raise UndecodableEvent(error.message) from error


# Any: of each column of the attempts, a tuple of its own type.
def _attempts(attempts: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """The attempts column by column; nearly every request has one."""
    if len(attempts) == 1:
        return zip(_ATTEMPT(attempts[0]), strict=True)
    return zip(*map(_ATTEMPT, attempts), strict=True) if attempts else _NO_ATTEMPTS


def row_from_wire(event_id: str, wire: usage_pb2.UsageRecorded, at: LogMessage) -> RequestRow:
    """The row of a usage event that stands in the log where `at` does; the same each time.

    Quantities of one kind that come in several pieces are summed. Raises BadUsage.
    """
    tokens = _NO_TOKENS.copy()
    other = _NO_OTHER
    for quantity in wire.quantities:
        kind = quantity.kind
        column = _COLUMN_OF_KIND.get(kind)
        if column is None:
            other = {**other, kind: other.get(kind, 0) + quantity.tokens}
        else:
            tokens[column] += quantity.tokens
    tags = wire.tags
    # Any: a row is a tuple of many types, and the gulps are tuples of them.
    values: tuple[Any, ...] = (
        *_WHO(wire),
        event_id,
        *_WHAT(wire),
        name_of(wire.outcome, OUTCOMES),
        *_HOW(wire),
        wire.admitted_at_ms or None,
        wire.first_token_ms,
        wire.latency_ms,
        *tokens,
        other,
        name_of(wire.usage_basis, USAGE_BASES),
        *_MONEY(wire),
        # Twice as fast as `dict` of the map.
        {name: tags[name] for name in tags},
        *_attempts(wire.attempts),
        at.topic,
        at.partition,
        at.offset,
    )
    return checked(RequestRow._make(values))
