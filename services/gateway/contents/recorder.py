"""Keeps prompts and answers beside the requests, on a way of its own to Kafka.

Nothing waits for it: what is noted lies in a bounded buffer until the one task here has sent it.
Where the buffer is full, contents are dropped and counted. The usage event of a request is on disk
before its content is noted, so nothing that happens here touches the money.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from services.common.clock import Clock
from services.common.errors import AppError
from services.common.events import record_of
from services.common.kafka.ports import LogError, LogProducer, Position, noticed
from services.common.pb.mesh.events.v1 import content_pb2
from services.common.retry import Backoff
from services.common.telemetry import get_logger
from services.common.topics import CONTENT
from services.gateway.contents.limits import ContentLimits
from services.gateway.contents.text import bounded, prompt_pieces, without_secrets
from services.gateway.usage_entry import UsageEntry

CONTENTS_SENT = Counter("mesh_gateway_contents_sent", "Prompts with answers that Kafka has taken.")
CONTENTS_DROPPED = Counter(
    "mesh_gateway_contents_dropped", "Prompts with answers that were not kept.", ["reason"]
)
CONTENTS_WAITING = Gauge("mesh_gateway_contents_waiting_bytes", "Texts that wait for Kafka.")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Noted:
    """One request's content and about how many bytes it takes up."""

    message: content_pb2.ContentRecorded
    size: int


class ContentRecorder:
    """The `Contents` of a worker whose operator allows them to be stored."""

    def __init__(self, producer: LogProducer, *, clock: Clock, limits: ContentLimits) -> None:
        self._producer = producer
        self._clock = clock
        self._limits = limits
        self._backoff = Backoff(first_s=limits.backoff_first_s, max_s=limits.backoff_max_s)
        self._waiting: deque[_Noted] = deque()
        self._size = 0
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def note(self, entry: UsageEntry, answer: Sequence[str]) -> None:
        """Keeps the content where the key's owner wants it and there is room."""
        if not entry.principal.settings.content_stored or entry.request is None:
            return
        if self._size >= self._limits.waiting_bytes_max:
            CONTENTS_DROPPED.labels("full").inc()
            return
        try:
            noted = self._noted(entry, answer)
        except Exception as error:  # noqa: BLE001 - the caller's answer must not hang on this
            CONTENTS_DROPPED.labels("fault").inc()
            _log.error("content not kept", usage_id=entry.usage_id, error=type(error).__name__)
            return
        self._waiting.append(noted)
        self._add(noted.size)
        self._idle.clear()
        self._work.set()

    def _noted(self, entry: UsageEntry, answer: Sequence[str]) -> _Noted:
        assert entry.request is not None
        prompt, prompt_cut = bounded(prompt_pieces(entry.request), self._limits.bytes_max)
        text, answer_cut = bounded(answer, self._limits.bytes_max)
        message = content_pb2.ContentRecorded(
            usage_id=entry.usage_id,
            request_id=entry.request_id,
            account_id=entry.principal.account_id,
            key_id=entry.principal.key_id,
            received_at_ms=entry.received_at_ms,
            model_id=entry.chosen.model.model_id if entry.chosen else entry.requested_model,
            prompt=prompt,
            answer=text,
            prompt_truncated=prompt_cut,
            answer_truncated=answer_cut,
        )
        return _Noted(message, message.ByteSize())

    async def run(self) -> None:
        """Sends until cancelled, as often as it takes."""
        await self._connect()
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch = list(self._waiting)[: self._limits.at_once]
                if not await self._send(batch):
                    await self._clock.sleep(self._backoff.next_s())
                    continue
                self._backoff.reset()
                for noted in batch:
                    self._waiting.popleft()
                    self._add(-noted.size)
            self._idle.set()

    async def stop(self) -> None:
        """Waits a moment for what has not been sent yet, then disconnects."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                await self._idle.wait()
        for _ in self._waiting:
            CONTENTS_DROPPED.labels("stopped").inc()
        await self._producer.stop()

    async def _connect(self) -> None:
        while True:
            try:
                await self._producer.start()
            except AppError as error:
                _log.warning("contents wait for Kafka", error=error.message)
                await self._clock.sleep(self._backoff.next_s())
            else:
                return

    async def _send(self, batch: Sequence[_Noted]) -> bool:
        """Sends all and waits for all; False where it has to be tried again. Some may have arrived:
        of two with one usage id the log keeps one.
        """
        sent: set[asyncio.Future[Position]] = set()
        try:
            for noted in batch:
                await self._enqueue(noted.message, sent)
            if not sent:
                return True
            done, waiting = await asyncio.wait(sent, timeout=self._limits.acknowledge_s)
        except AppError as error:
            _log.warning("contents not sent", error=error.message)
            return False
        failed = sum(future.cancelled() or future.exception() is not None for future in done)
        if waiting or failed:
            _log.warning("contents not sent", acknowledged=len(done) - failed, of=len(sent))
            return False
        CONTENTS_SENT.inc(len(done))
        return True

    async def _enqueue(
        self, message: content_pb2.ContentRecorded, sent: set[asyncio.Future[Position]]
    ) -> None:
        # Here and not where it is noted: the caller has the answer by now.
        message.prompt = without_secrets(message.prompt)
        message.answer = without_secrets(message.answer)
        record = record_of(
            message, account_id=message.account_id, occurred_at_ms=message.received_at_ms
        )
        key = message.account_id.encode()
        try:
            future = await self._producer.enqueue(CONTENT.name, key, record.to_bytes())
        except LogError as error:
            CONTENTS_DROPPED.labels("refused").inc()
            _log.error("content refused", usage_id=message.usage_id, error=str(error))
            return
        future.add_done_callback(noticed)
        sent.add(future)

    def _add(self, size: int) -> None:
        self._size += size
        CONTENTS_WAITING.set(self._size)
