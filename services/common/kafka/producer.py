"""The producer for Apache Kafka: idempotent, all replicas acknowledge, bounded waits, says whether
it is connected.

It is not transactional, so that the offsets of a partition are contiguous and a gap means loss.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalStateError,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from services.common.errors import Unavailable
from services.common.kafka.ports import Headers, LogError, Position
from services.common.retry import Backoff
from services.common.telemetry import get_logger, metrics

_BROKEN = (OutOfOrderSequenceNumber, InvalidProducerEpoch, ProducerFenced)
_PROBE_S = 2.0
_STOP_TIMEOUT_S = 10.0
MESSAGE_BYTES_MAX = 1_000_000

_log = get_logger(__name__)


class KafkaProducer:
    """A `LogProducer` for Apache Kafka; times are seconds."""

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "mesh",
        send_timeout_s: float = 5.0,
        start_timeout_s: float = 30.0,
        linger_ms: int = 0,
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._send_timeout_s = send_timeout_s
        self._start_timeout_s = start_timeout_s
        self._linger_ms = linger_ms
        # Any: aiokafka has no type information.
        self._producer: Any = None
        self._connected = False
        self._probe: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """False where the log could not be reached lately; checked every two seconds and by every
        send.
        """
        return self._connected

    async def start(self) -> None:
        """Connects, trying again until the start timeout. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._start_timeout_s):
                self._producer = await self._connect()
        except TimeoutError:
            raise Unavailable(f"Kafka at {self._bootstrap} cannot be reached") from None
        self._note(True)
        self._probe = asyncio.create_task(self._probe_forever(), name="kafka-producer-probe")

    async def stop(self) -> None:
        """Sends what is queued, for ten seconds at most, and disconnects."""
        for task in (self._probe, self._renewal):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._probe = self._renewal = None
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)
        self._note(False)

    async def send(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> Position:
        """Writes one message and waits for all replicas. Raises Unavailable: the message may then
        still arrive.
        """
        try:
            async with asyncio.timeout(self._send_timeout_s):
                return await asyncio.shield(await self.enqueue(topic, key, value, headers=headers))
        except TimeoutError:
            self._note(False)
            metrics.PRODUCER_FAILED.labels(topic).inc()
            raise Unavailable(
                f"Kafka did not acknowledge within {self._send_timeout_s} s"
            ) from None

    async def enqueue(
        self, topic: str, key: bytes, value: bytes | None, *, headers: Headers = ()
    ) -> asyncio.Future[Position]:
        """Queues one message in order; the future has no time limit, the producer tries until it
        succeeds.

        Raises Unavailable where the queue stays full, LogError where the message can never be
        written.
        """
        producer = self._producer
        if producer is None:
            raise Unavailable("the Kafka producer is not started")
        try:
            future = await producer.send(topic, value, key=key, headers=list(headers))
        except MessageSizeTooLargeError as error:
            raise LogError(f"a message for {topic} is larger than the log takes") from error
        except (KafkaError, IllegalStateError) as error:
            self._note(False)
            raise Unavailable(f"Kafka takes no messages: {type(error).__name__}") from error
        return asyncio.ensure_future(self._acknowledged(topic, future))

    async def _acknowledged(self, topic: str, future: asyncio.Future[Any]) -> Position:
        try:
            meta = await future
        except KafkaError as error:
            metrics.PRODUCER_FAILED.labels(topic).inc()
            if isinstance(error, _BROKEN):
                self._renew()
            raise Unavailable(f"Kafka refused: {type(error).__name__}") from error
        self._note(True)
        metrics.PRODUCER_SENT.labels(topic).inc()
        return Position(meta.topic, meta.partition, meta.offset)

    async def _connect(self) -> Any:  # Any: aiokafka has no type information.
        backoff = Backoff(first_s=0.1, max_s=2.0)
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
                linger_ms=self._linger_ms,
                max_request_size=MESSAGE_BYTES_MAX,
                request_timeout_ms=10_000,
                retry_backoff_ms=100,
            )
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                await _stop(producer)
                _log.warning("Kafka cannot be reached", error=str(error))
                await asyncio.sleep(backoff.next_s())
            except BaseException:
                await _stop(producer)
                raise
            else:
                return producer

    def _renew(self) -> None:
        """Starts over with a new producer id: the broker lost the sequence of the old one."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._replace(), name="kafka-producer-renewal")

    async def _replace(self) -> None:
        _log.error("the sequence of the Kafka producer broke; it starts over")
        broken, self._producer = self._producer, None
        self._note(False)
        if broken is not None:
            await _stop(broken)
        self._producer = await self._connect()
        self._note(True)

    async def _probe_forever(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_S)
            producer = self._producer
            if producer is None:
                continue
            try:
                async with asyncio.timeout(_PROBE_S):
                    self._note(bool(await producer.client.force_metadata_update()))
            except (TimeoutError, KafkaError, OSError):
                self._note(False)

    def _note(self, connected: bool) -> None:
        if connected != self._connected:
            _log.info("Kafka producer", connected=connected)
        self._connected = connected
        metrics.PRODUCER_CONNECTED.set(connected)


async def _stop(producer: Any) -> None:  # Any: aiokafka has no type information.
    # A batch that no broker takes would hold the flush up for ever.
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await producer.stop()
