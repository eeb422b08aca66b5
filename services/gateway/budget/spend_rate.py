"""How fast a key spends: an exponentially decaying sum, so that old spend fades without timers."""

from __future__ import annotations

import math


class SpendRate:
    """Recent spend in nano-dollars per second. A float: it only sizes questions to billing."""

    __slots__ = ("_at_s", "_sum", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sum = 0.0
        self._at_s = 0.0

    def add(self, cost_nanousd: int, now_s: float) -> None:
        """Counts a cost at this monotonic second."""
        self._sum = self._decayed(now_s) + cost_nanousd
        self._at_s = now_s

    def per_second(self, now_s: float) -> float:
        """Nano-dollars per second, averaged over about the window."""
        return self._decayed(now_s) / self._window_s

    def _decayed(self, now_s: float) -> float:
        elapsed_s = now_s - self._at_s
        return self._sum * math.exp(-elapsed_s / self._window_s) if elapsed_s > 0 else self._sum
