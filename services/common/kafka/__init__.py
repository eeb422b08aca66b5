"""The event log: ports, Apache Kafka adapters and their in-memory twins."""

from services.common.kafka.admin import check_topics, create_topics
from services.common.kafka.dead_letters import DeadLetters, TooManyDeadLetters
from services.common.kafka.ports import (
    Batch,
    Claim,
    GapDetected,
    LogError,
    LogMessage,
    LogProducer,
    LogSource,
    OffsetOutOfRange,
    Position,
    PumpTarget,
    StaleEpoch,
)
from services.common.kafka.producer import KafkaProducer
from services.common.kafka.pump import Pump
from services.common.kafka.table_reader import TableReader

__all__ = [
    "Batch",
    "Claim",
    "DeadLetters",
    "GapDetected",
    "KafkaProducer",
    "LogError",
    "LogMessage",
    "LogProducer",
    "LogSource",
    "OffsetOutOfRange",
    "Position",
    "Pump",
    "PumpTarget",
    "StaleEpoch",
    "TableReader",
    "TooManyDeadLetters",
    "check_topics",
    "create_topics",
]
