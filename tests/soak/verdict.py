"""What a soak shows: the slope of memory over the hours after the warm-up, and what was left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.soak.gauge import Sample

GROWTH_MAX_MB_H = 1.0


def slope(values: Sequence[float]) -> float:
    """By least squares, for values an hour apart; 0 for fewer than two."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    across = sum((hour - middle) * (value - mean) for hour, value in enumerate(values))
    return across / sum((hour - middle) ** 2 for hour in range(count))


def after_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Without the first third of the hours: caches fill in them, and lazy imports are made."""
    return samples[len(samples) // 3 :]


def faults(
    samples: Sequence[Sample],
    *,
    tasks_before: Mapping[str, int],
    idle_max: int,
    growth_max_mb_h: float = GROWTH_MAX_MB_H,
) -> list[str]:
    """What must not be, in words; empty for a worker that leaks nothing."""
    found = []
    growth = slope([sample.rss_mb for sample in after_warm_up(samples)])
    if growth >= growth_max_mb_h:
        found.append(f"memory grows by {growth:.2f} MB an hour")
    for sample in samples:
        more = Counter(sample.tasks) - Counter(tasks_before)
        left = {
            "requests in flight": sample.in_flight,
            "connections to providers with an answer under way": sample.busy,
            "connections of callers": sample.callers,
            "grants": sample.grants,
            "holds": sample.holds,
            "tickets": sample.tickets,
            **sample.open,
            **{f"tasks of {name}": count for name, count in more.items()},
        }
        found += [
            f"hour {sample.hour}: {count} {name} left" for name, count in left.items() if count
        ]
        if sample.idle > idle_max:
            found.append(f"hour {sample.hour}: {sample.idle} connections kept, not {idle_max}")
    return found
