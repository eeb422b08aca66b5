"""What a service put aside and what people decided about it, both on its topic of dead letters.

The topic has one partition, so that a decision lies behind its letter: whoever reads the newest
messages of it has every decision about the letters among them. Nothing is ever taken away; the
newest decision counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from google.protobuf import json_format

from services.common.clock import Clock
from services.common.errors import InvalidArgument, NotFound
from services.common.events import EventRecord, UndecodableEvent, record_of
from services.common.kafka import LogArchive, LogMessage, LogProducer, Position
from services.common.pb.mesh.events.v1 import dead_letter_pb2
from services.common.telemetry import get_logger
from services.common.telemetry.logs import MASK, redact
from services.common.topics import USAGE, Topic

# So many of the newest messages are looked at: letters and decisions together.
LOOKED_AT_MAX = 2_000
REASON_LENGTH_MAX = 400
PREVIEW_LENGTH_MAX = 2_000
# Its consumers tell each event by its id, so that one that comes late or twice does no harm. On a
# compacted topic an old message would stand for the newest; a ledger has its own order.
RETRYABLE_TOPICS = frozenset({USAGE.name})
# Texts in these fields stand for a secret, whatever they look like.
_SECRET_FIELDS = re.compile(r"(?:^|_)(?:hash|secret|password|credential|token|ciphertext)$")

_log = get_logger(__name__)

Status = Literal["open", "sent_again", "discarded"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided about a letter; `reason` is empty where it was sent again."""

    status: Status
    at_ms: int
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the topic that is no decision; `content` is None where it is no letter."""

    position: int
    put_at_ms: int
    content: dead_letter_pb2.DeadLetter | None
    size_bytes: int
    decision: Decision | None = None

    @property
    def status(self) -> Status:
        return self.decision.status if self.decision is not None else "open"

    @property
    def retryable(self) -> bool:
        """Whether it can be sent to its topic again."""
        return self.content is not None and self.content.topic in RETRYABLE_TOPICS


@dataclass(frozen=True, slots=True)
class Shelf:
    """The newest letters, newest first; `older` where there are more that were not looked at."""

    letters: tuple[Letter, ...]
    decisions: Mapping[int, Decision]
    older: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a letter, secrets masked: the event as JSON, or why there is none and a preview of
    its text.
    """

    record: EventRecord | None = None
    event_json: str = field(default="", repr=False)
    undecodable: str = ""
    preview: str = field(default="", repr=False)


def shelf_of(messages: Iterable[LogMessage], *, older: bool = False) -> Shelf:
    """Letters with their newest decisions, from the newest messages of a topic, newest first."""
    decisions: dict[int, Decision] = {}
    letters: list[Letter] = []
    for message in messages:
        found = _message_of(message)
        match found:
            case dead_letter_pb2.DeadLetterSentAgain():
                at_ms = message.timestamp_ms
                decisions.setdefault(found.position, Decision("sent_again", at_ms, found.actor))
            case dead_letter_pb2.DeadLetterDiscarded():
                at_ms = message.timestamp_ms
                decision = Decision("discarded", at_ms, found.actor, found.reason)
                decisions.setdefault(found.position, decision)
            case _:
                letters.append(_letter(message, found, decisions.get(message.offset)))
    return Shelf(tuple(letters), decisions, older)


def contents_of(value: bytes) -> Contents:
    """What is in the message that was put aside."""
    try:
        record = EventRecord.from_bytes(value)
    except UndecodableEvent as error:
        return Contents(undecodable=str(error), preview=_preview(value))
    try:
        found = json_format.MessageToDict(record.message(), preserving_proto_field_name=True)
    except UndecodableEvent as error:
        return Contents(record, undecodable=str(error), preview=_preview(record.payload))
    masked = json.dumps(redact(_without_secrets(found)), ensure_ascii=False, indent=2)
    return Contents(record, event_json=masked)


class DeadLetterDesk:
    """Shows what lies on one topic of dead letters, and writes down what is decided about it."""

    def __init__(
        self, archive: LogArchive, producer: LogProducer, *, dead: Topic, clock: Clock
    ) -> None:
        self._archive = archive
        self._producer = producer
        self._dead = dead.name
        self._consumer = dead.producers[0]
        self._clock = clock

    async def newest(self) -> Shelf:
        """Raises Unavailable."""
        found = await self._archive.newest(self._dead, LOOKED_AT_MAX)
        return shelf_of(found, older=len(found) == LOOKED_AT_MAX)

    async def letter(self, position: int) -> Letter:
        """Raises NotFound where there is none (any more), Unavailable."""
        shelf = await self.newest()
        for one in shelf.letters:
            if one.position == position:
                return one
        message = await self._archive.at(self._dead, position)
        found = None if message is None else _message_of(message)
        if message is None or not isinstance(found, dead_letter_pb2.DeadLetter):
            raise NotFound("there is no such dead letter")
        return _letter(message, found, shelf.decisions.get(position))

    async def send_again(self, position: int, *, actor: str) -> Position:
        """Raises NotFound; InvalidArgument for a topic that takes nothing twice; Unavailable."""
        letter = await self.letter(position)
        content = letter.content
        if content is None:
            raise NotFound("there is no such dead letter")
        if not letter.retryable:
            raise InvalidArgument.of(
                "position", f"what came from {content.topic} is not sent again"
            )
        sent = await self._producer.send(content.topic, content.key, content.value)
        decision = dead_letter_pb2.DeadLetterSentAgain(
            consumer=self._consumer, position=position, actor=actor,
            topic=sent.topic, partition=sent.partition, offset=sent.offset,
        )  # fmt: skip
        await self._decide(decision, key=content.key)
        _log.warning("dead letter sent again", topic=content.topic, position=position, by=actor)
        return sent

    async def discard(self, position: int, *, reason: str, actor: str) -> Letter:
        """The letter as it is then. Raises NotFound, InvalidArgument, Unavailable."""
        reason = reason.strip()
        if not 1 <= len(reason) <= REASON_LENGTH_MAX:
            raise InvalidArgument.of("reason", f"must have 1 to {REASON_LENGTH_MAX} characters")
        letter = await self.letter(position)
        if letter.status != "discarded":
            decision = dead_letter_pb2.DeadLetterDiscarded(
                consumer=self._consumer, position=position, reason=reason, actor=actor
            )
            content = letter.content
            await self._decide(decision, key=content.key if content is not None else b"")
            _log.warning("dead letter discarded", position=position, by=actor, reason=reason)
            letter = await self.letter(position)
        return letter

    async def _decide(
        self,
        decision: dead_letter_pb2.DeadLetterSentAgain | dead_letter_pb2.DeadLetterDiscarded,
        *,
        key: bytes,
    ) -> None:
        record = record_of(
            decision,
            account_id="",
            occurred_at_ms=self._clock.now_ms(),
            event_type=f"{self._consumer}.{type(decision).__name__}",
        )
        await self._producer.send(self._dead, key, record.to_bytes())


def _message_of(message: LogMessage) -> object:
    """What the message is; None where it cannot be told."""
    try:
        return EventRecord.from_bytes(message.value).message()
    except UndecodableEvent:
        return None


def _letter(message: LogMessage, found: object, decision: Decision | None) -> Letter:
    content = found if isinstance(found, dead_letter_pb2.DeadLetter) else None
    size = len(content.value) if content is not None else len(message.value or b"")
    return Letter(message.offset, message.timestamp_ms, content, size, decision)


def _preview(raw: bytes) -> str:
    """The text in it, without what steers a terminal."""
    text = raw[: 4 * PREVIEW_LENGTH_MAX].decode("utf-8", "replace")
    shown = "".join(one if one.isprintable() or one == "\n" else "\N{MIDDLE DOT}" for one in text)
    return str(redact(shown))[:PREVIEW_LENGTH_MAX]


def _without_secrets(value: object, name: str = "") -> object:
    """The value with the texts of secret fields masked, at any depth."""
    if isinstance(value, Mapping):
        return {key: _without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, name) for item in value]
    return MASK if isinstance(value, str) and _SECRET_FIELDS.search(name) else value
