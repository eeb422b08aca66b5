"""The event log: ports, Apache Kafka adapters and their in-memory twins."""

from services.common.kafka.admin import check_topics, create_topics
from services.common.kafka.archive import KafkaArchive
from services.common.kafka.dead_letters import DeadLetters, TooManyDeadLetters
from services.common.kafka.groups import KafkaGroups
from services.common.kafka.ports import (
    Batch,
    Claim,
    GapDetected,
    Group,
    Lag,
    LogArchive,
    LogError,
    LogGroups,
    LogMessage,
    LogProducer,
    LogSource,
    OffsetOutOfRange,
    Place,
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
    "Group",
    "KafkaArchive",
    "KafkaGroups",
    "KafkaProducer",
    "Lag",
    "LogArchive",
    "LogError",
    "LogGroups",
    "LogMessage",
    "LogProducer",
    "LogSource",
    "OffsetOutOfRange",
    "Place",
    "Position",
    "Pump",
    "PumpTarget",
    "StaleEpoch",
    "TableReader",
    "TooManyDeadLetters",
    "check_topics",
    "create_topics",
]
