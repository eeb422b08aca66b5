"""How often someone may guess a password: a limiter in bounded memory that keeps no addresses.

It counts per subject (an e-mail address or a user), whether or not that exists, and knows nothing
of the caller's network address, which behind a proxy says little. Each process counts for itself.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict

from services.common.clock import Clock
from services.common.errors import RateLimitExceeded


class MemoryAttempts:
    """Implements `Attempts`: at most `attempts_max` in a window of `window_s` seconds that begins
    with the first.

    Where more than `subjects_max` are known, the one that was quiet longest is forgotten.
    """

    def __init__(
        self, clock: Clock, *, attempts_max: int, window_s: float, subjects_max: int
    ) -> None:
        self._clock = clock
        self._attempts_max = attempts_max
        self._window_s = window_s
        self._subjects_max = subjects_max
        # Digest of the subject: (start of its window, attempts in it).
        self._windows: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def begin(self, subject: str) -> None:
        """Counts an attempt before it is made, so that many at once cannot slip through."""
        digest, now_s = _digest(subject), self._clock.monotonic_s()
        start_s, count = self._windows.pop(digest, (now_s, 0))
        if now_s - start_s >= self._window_s:
            start_s, count = now_s, 0
        refused = count >= self._attempts_max
        self._windows[digest] = (start_s, count if refused else count + 1)
        if len(self._windows) > self._subjects_max:
            self._windows.popitem(last=False)
        if refused:
            raise RateLimitExceeded(
                "Too many attempts; try again later.",
                retry_after_s=max(1, math.ceil(start_s + self._window_s - now_s)),
            )

    def succeeded(self, subject: str) -> None:
        """Forgets the attempts of the subject."""
        self._windows.pop(_digest(subject), None)


def _digest(subject: str) -> bytes:
    return hashlib.blake2b(subject.encode(), digest_size=16).digest()
