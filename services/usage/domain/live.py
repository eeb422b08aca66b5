"""Live windows: requests, errors, tokens, spend and latency of an account, its keys and models, in
buckets of 1, 10 and 60 seconds. Everything here can be lost and derived again from the log.

A request counts in the bucket in which it ended, so that a bucket is final as soon as the log has
been read up to its end. Of two events with one usage id the first counts, as in the request log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, log
from typing import Literal

Dimension = Literal["", "key", "model"]
SeriesKey = tuple[str, Dimension, str]

# Seconds of a bucket, and for how many seconds they are kept; the longest is the horizon.
RESOLUTIONS: dict[int, int] = {1: 120, 10: 1_200, 60: 1_800}
HORIZON_S = max(RESOLUTIONS.values())
# A clock that is ahead by more than this is wrong; what it says is not counted.
AHEAD_MAX_MS = 60_000
# Latencies share a bin with those within 2 % around its middle.
_BASE = 1.04
_LOG_BASE = log(_BASE)
NO_FAILURE = frozenset({"success", "client_gone"})


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """What the windows need of a request."""

    usage_id: str
    account_id: str
    key_id: str
    model_id: str
    ended_at_ms: int
    latency_ms: int
    failed: bool
    prompt_tokens: int
    completion_tokens: int
    cost_nanousd: int


@dataclass(slots=True)
class Cell:
    """Sums over one bucket, and a histogram of its latencies. `version` grows with each change."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanousd: int = 0
    version: int = 0
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, event: LiveEvent, place: int, version: int) -> None:
        """Counts the request, whose latency belongs into bin `place`."""
        self.requests += 1
        self.errors += event.failed
        self.prompt_tokens += event.prompt_tokens
        self.completion_tokens += event.completion_tokens
        self.cost_nanousd += event.cost_nanousd
        self.bins[place] = self.bins.get(place, 0) + 1
        self.version = version

    def quantile_ms(self, share: float) -> int:
        """The latency that `share` of the requests did not exceed, at most 2 % and 1 ms off."""
        rank = max(1, ceil(share * self.requests))
        for place in sorted(self.bins):
            rank -= self.bins[place]
            if rank <= 0:
                return latency_of(place)
        return 0


def bin_of(latency_ms: int) -> int:
    """The bin of a latency; 0 and less have one of their own."""
    return round(log(latency_ms) / _LOG_BASE) if latency_ms > 0 else -1


def latency_of(place: int) -> int:
    """The middle of a bin, in milliseconds."""
    return round(_BASE**place) if place >= 0 else 0


class LiveSet:
    """All windows. Memory is bounded by `series_max` and the horizon."""

    def __init__(self, *, series_max: int = 50_000) -> None:
        self._series_max = series_max
        self._series: dict[SeriesKey, dict[int, dict[int, Cell]]] = {}
        self._by_account: dict[str, set[SeriesKey]] = {}
        # By the minute in which they ended, so that they can be forgotten together.
        self._seen: dict[int, set[str]] = {}
        self._version = 0
        self.truncated: set[str] = set()

    @property
    def version(self) -> int:
        """Of the newest change."""
        return self._version

    @property
    def series_count(self) -> int:
        """How many series are kept."""
        return len(self._series)

    def add(self, event: LiveEvent, now_ms: int) -> bool:
        """Counts the event; False where it was counted before, is too old or from the future."""
        ended = event.ended_at_ms
        if not now_ms - HORIZON_S * 1000 <= ended <= now_ms + AHEAD_MAX_MS:
            return False
        seen = self._seen.setdefault(ended // 60_000, set())
        if event.usage_id in seen:
            return False
        seen.add(event.usage_id)
        self._version += 1
        place = bin_of(event.latency_ms)
        account_id = event.account_id
        keys: tuple[SeriesKey, ...] = (
            (account_id, "", ""),
            (account_id, "key", event.key_id),
            (account_id, "model", event.model_id),
        )
        for key in keys:
            series = self._series.get(key) or self._new_series(key)
            if series is None:
                continue
            for resolution_s, cells in series.items():
                if ended < now_ms - RESOLUTIONS[resolution_s] * 1000:
                    continue
                start = ended // 1000 // resolution_s * resolution_s
                cell = cells.get(start)
                if cell is None:
                    cell = cells[start] = Cell()
                cell.add(event, place, self._version)
        return True

    def forget(self, now_ms: int) -> None:
        """Lets go of what is older than it is kept for."""
        now_s = now_ms // 1000
        for minute in [m for m in self._seen if (m + 1) * 60 <= now_s - HORIZON_S]:
            del self._seen[minute]
        for key in list(self._series):
            series = self._series[key]
            for resolution_s, cells in series.items():
                oldest = now_s - RESOLUTIONS[resolution_s] - resolution_s
                for start in [start for start in cells if start < oldest]:
                    del cells[start]
            if not any(series.values()):
                del self._series[key]
                self._by_account[key[0]].discard(key)
                if not self._by_account[key[0]]:
                    del self._by_account[key[0]]
                    self.truncated.discard(key[0])

    def read(
        self, account_id: str, group_by: Dimension, *, resolution_s: int, since_s: int, after: int
    ) -> Iterator[tuple[str, list[tuple[int, Cell]]]]:
        """Values and their buckets (start in Unix seconds) from `since_s` on that have changed
        after version `after`.
        """
        for key in sorted(self._by_account.get(account_id, ())):
            if key[1] == group_by:
                cells = self._series[key][resolution_s].items()
                changed = sorted(
                    (start, cell)
                    for start, cell in cells
                    if start >= since_s and cell.version > after
                )
                if changed:
                    yield key[2], changed

    def sums(self, account_id: str, *, since_s: int, until_s: int) -> Cell:
        """The account's total over whole minutes."""
        total = Cell()
        series = self._series.get((account_id, "", ""), {})
        for start, cell in series.get(60, {}).items():
            if since_s <= start < until_s:
                total.requests += cell.requests
                total.errors += cell.errors
                total.cost_nanousd += cell.cost_nanousd
        return total

    def accounts(self) -> Sequence[str]:
        """Those with anything in their windows."""
        return list(self._by_account)

    def _new_series(self, key: SeriesKey) -> dict[int, dict[int, Cell]] | None:
        # An account's total is always kept: there are fewer accounts than keys and models.
        if key[1] and len(self._series) >= self._series_max:
            self.truncated.add(key[0])
            return None
        series = self._series[key] = {resolution_s: {} for resolution_s in RESOLUTIONS}
        self._by_account.setdefault(key[0], set()).add(key)
        return series
