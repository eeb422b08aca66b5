"""The bounds of the journal, each a setting of the gateway (`MESH_GATEWAY_WAL_...`)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Bytes and seconds, as the names say."""

    # All segments together; the last `reserve_bytes` of them are for requests already admitted.
    total_bytes: int = 1024 * MIB
    reserve_bytes: int = 32 * MIB
    segment_bytes: int = 32 * MIB
    # What delivery reads, and has on its way to Kafka, at once.
    read_bytes: int = MIB
    # How long Kafka may take to acknowledge what was sent before it is sent again.
    acknowledge_s: float = 30.0
    backoff_first_s: float = 0.05
    backoff_max_s: float = 5.0
    # After the disk was full: how long until it is tried again.
    disk_retry_s: float = 1.0

    def __post_init__(self) -> None:
        if self.total_bytes < self.reserve_bytes + 2 * self.segment_bytes:
            raise ValueError("total_bytes must hold the reserve and two segments")
