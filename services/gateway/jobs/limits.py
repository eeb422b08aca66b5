"""Bounds of what runs items of jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Bounds of the runner. Seconds."""

    # Items that are run at once; 0 runs none.
    parallel: int = 4
    lease_s: float = 30.0
    # Between two questions for work while there is none.
    poll_s: float = 1.0
