"""Bounds of what is kept of prompts and answers."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """Sizes in bytes of UTF-8, times in seconds."""

    # Of a prompt and of an answer, each.
    bytes_max: int = 64 * 1024
    # What may wait for Kafka; beyond it contents are dropped.
    waiting_bytes_max: int = 16 * MIB
    # Events that are sent before their acknowledgements are waited for.
    at_once: int = 64
    acknowledge_s: float = 10.0
    backoff_first_s: float = 0.2
    backoff_max_s: float = 5.0
    # How long the end of the process may take.
    drain_s: float = 2.0
