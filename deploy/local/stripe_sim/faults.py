"""A seeded plan of what goes wrong between the gateway and whoever uses it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Fault = Literal["none", "500_before", "500_after", "lost_before", "lost_after"]
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Probabilities per occasion. Without one nothing goes wrong.

    A notice is dropped, or delivered one to five times, each time up to `delay_max_ms` late. A call
    fails before or after it took effect, with a 500 - which the gateway keeps under the call's key,
    as the real one does - or without any answer.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_max_ms: int = 3 * DAY_MS
    fail: float = 0.0
    lose: float = 0.0

    @classmethod
    def seeded(cls, rng: random.Random) -> FaultPlan:
        """A plan that is rough or mild, by chance."""
        return cls(
            drop=rng.choice([0.0, 0.1, 0.5]),
            duplicate=rng.choice([0.0, 0.2, 0.8]),
            delay=rng.choice([0.0, 0.2, 0.8]),
            fail=rng.choice([0.0, 0.05, 0.2]),
            lose=rng.choice([0.0, 0.05, 0.2]),
        )

    def deliveries(self, rng: random.Random) -> list[int]:
        """After how many milliseconds each delivery of a notice comes; none where it is lost."""
        if rng.random() < self.drop:
            return []
        count = rng.randint(2, 5) if rng.random() < self.duplicate else 1
        return [
            rng.randrange(self.delay_max_ms) if rng.random() < self.delay else rng.randrange(200)
            for _ in range(count)
        ]

    def fault(self, rng: random.Random) -> Fault:
        """What happens to one call."""
        if rng.random() < self.fail:
            return rng.choice(["500_before", "500_after", "500_after"])
        if rng.random() < self.lose:
            return rng.choice(["lost_before", "lost_after", "lost_after"])
        return "none"
