"""Pauses between tries: exponential, bounded and jittered."""

from __future__ import annotations

import random


class Backoff:
    """The pauses of one retry loop; `reset` after a success."""

    def __init__(self, *, first_s: float, max_s: float) -> None:
        assert 0 < first_s <= max_s
        self._first_s = first_s
        self._max_s = max_s
        self._tries = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try: double each time up to the bound, less up to a half
        at random.
        """
        full = min(self._max_s, self._first_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load

    def reset(self) -> None:
        self._tries = 0
