"""Dead letters: messages that a consumer cannot take are put aside whole, up to a limit."""

from __future__ import annotations

from collections import deque

from services.common.clock import Clock, SystemClock
from services.common.events import record_of
from services.common.kafka.ports import LogError, LogMessage, LogProducer
from services.common.pb.mesh.events.v1 import dead_letter_pb2
from services.common.telemetry import get_logger, metrics
from services.common.topics import Topic

REASON_LENGTH_MAX = 1000
_REMEMBERED_MAX = 10_000

_log = get_logger(__name__)


class TooManyDeadLetters(LogError):
    """More messages were put aside than single defects explain: the consumer stops."""


class DeadLetters:
    """The dead-letter topic of one consumer; at most `limit` messages in `window_s` seconds."""

    def __init__(
        self,
        producer: LogProducer,
        *,
        consumer: str,
        topic: Topic,
        limit: int = 100,
        window_s: float = 3600.0,
        clock: Clock | None = None,
    ) -> None:
        self._producer = producer
        self._consumer = consumer
        self._topic = topic
        self._limit = limit
        self._window_s = window_s
        self._clock = clock or SystemClock()
        self._times: deque[float] = deque()
        self._put: dict[tuple[str, int, int], None] = {}

    async def put(self, message: LogMessage, reason: str) -> None:
        """Writes the message with its place and the reason; the same place once only while this
        process lives.

        Raises TooManyDeadLetters before the write that would exceed the limit, Unavailable.
        """
        place = (message.topic, message.partition, message.offset)
        if place in self._put:
            return
        now_s = self._clock.monotonic_s()
        while self._times and self._times[0] <= now_s - self._window_s:
            self._times.popleft()
        if len(self._times) >= self._limit:
            raise TooManyDeadLetters(
                f"{self._consumer}: {self._limit} dead letters within {self._window_s:.0f} s"
            )
        record = record_of(
            dead_letter_pb2.DeadLetter(
                consumer=self._consumer,
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                key=message.key or b"",
                value=message.value or b"",
                reason=reason[:REASON_LENGTH_MAX],
            ),
            account_id="",
            occurred_at_ms=self._clock.now_ms(),
            event_type=f"{self._consumer}.DeadLetter",
        )
        await self._producer.send(self._topic.name, message.key or b"", record.to_bytes())
        self._times.append(now_s)
        self._put[place] = None
        if len(self._put) > _REMEMBERED_MAX:
            del self._put[next(iter(self._put))]
        metrics.DEAD_LETTERS.labels(self._consumer).inc()
        _log.error(
            "dead letter", topic=message.topic, partition=message.partition, offset=message.offset,
            reason=reason[:REASON_LENGTH_MAX],
        )  # fmt: skip
