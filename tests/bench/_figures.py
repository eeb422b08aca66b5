"""How a measurement says what it found: one line of JSON, beside what it is to be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import orjson


def say(name: str, value: float, unit: str, *, baseline: float | None, **facts: object) -> None:
    """Prints one figure. `baseline` is the naive way, in the same unit and the same run."""
    line = {"name": name, "value": _short(value), "unit": unit, "baseline": _short(baseline)}
    print(orjson.dumps({**line, **facts}).decode(), flush=True)


def quantile(values: Sequence[float], part: float) -> float:
    """The value that this part of all lies below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value) if abs(value) >= 100 else round(value, 2)
