"""Consumer spans: each message of a batch continues the trace of the request that caused it.

That is what joins the ledger entry and the log row to the caller's request. Envelopes are only
opened for it while traces are exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.common.events import EventRecord, UndecodableEvent
from services.common.kafka.ports import Batch
from services.common.telemetry.tracing import AttributeValue, Span, is_exporting, tracer


@contextmanager
def consumer_spans(batch: Batch, group: str) -> Iterator[None]:
    """A span for every traced message of the batch, as long as the block; none where no traces are
    exported.
    """
    spans = _started(batch, group) if is_exporting() else []
    try:
        yield
    except BaseException as error:
        for span in spans:
            span.fail(type(error).__name__)
        raise
    finally:
        for span in spans:
            tracer().end(span)


def _started(batch: Batch, group: str) -> list[Span]:
    spans = []
    for message in batch.messages:
        try:
            record = EventRecord.from_bytes(message.value)
        except UndecodableEvent:
            continue
        if record.traceparent:
            facts: dict[str, AttributeValue] = {
                "event_type": record.type,
                "partition": batch.partition,
                "offset": message.offset,
            }
            name = f"{group} {batch.topic}"
            spans.append(tracer().start(name, record.traceparent, facts, kind="consumer"))
    return spans
