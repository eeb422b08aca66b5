"""The machine's clock with hours left out: what waits through them wakes in the order it is due."""

from __future__ import annotations

import asyncio

from services.common.clock import SystemClock

# How often everything else may run before the next sleeper wakes.
_TURNS = 10


class SkippingClock(SystemClock):
    """Runs as the machine does, and jumps where it is told to."""

    def __init__(self) -> None:
        self._skipped_s = 0.0
        self._waiting: dict[asyncio.Future[None], float] = {}

    def now_ms(self) -> int:
        return super().now_ms() + round(self._skipped_s * 1000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._skipped_s

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        self._waiting[future] = self.monotonic_s() + seconds
        try:
            await future
        finally:
            timer.cancel()
            del self._waiting[future]

    async def skip(self, seconds: float) -> None:
        """Leaves so many seconds out, a second at a time, as periodic work sees them pass."""
        left_s = seconds
        while left_s > 0:
            step_s = min(1.0, left_s)
            left_s -= step_s
            self._skipped_s += step_s
            now_s = self.monotonic_s()
            for future in sorted(self._waiting, key=self._waiting.__getitem__):
                if self._waiting[future] <= now_s:
                    _wake(future)
            for _ in range(_TURNS):
                await asyncio.sleep(0)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
