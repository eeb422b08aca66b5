"""What the usage service needs of the outside: a store that the sink writes and one that views
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.usage.domain.row import RequestRow


@dataclass(frozen=True, slots=True)
class Bounds:
    """One batch of one partition: first and last offset, both inclusive, and how many distinct
    usage ids it holds.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    row_count: int

    @property
    def token(self) -> str:
        """What an insert of this batch is deduplicated by."""
        return f"{self.topic}:{self.partition}:{self.first_offset}-{self.last_offset}"


class SinkStore(Protocol):
    """Where the sink keeps rows and its position. Every method raises Unavailable where the
    store is away.
    """

    async def claim(self, topic: str, partition: int) -> int:
        """Takes the partition over: a new epoch, higher than any before."""

    async def epoch(self, topic: str, partition: int) -> int:
        """The epoch of the newest claim; 0 where there is none."""

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        """The bounds that were recorded last."""

    async def record(self, bounds: Bounds, epoch: int) -> None:
        """Writes the bounds down, durably, before the rows are inserted."""

    async def insert(self, bounds: Bounds, rows: Sequence[RequestRow]) -> None:
        """Inserts the rows of the batch; what an earlier insert with the same bounds wrote is
        not written again.
        """

    async def insert_missing(self, rows: Sequence[RequestRow]) -> None:
        """Inserts rows that were looked for and not found, whatever was inserted before."""

    async def stored_count(self, bounds: Bounds) -> int:
        """How many distinct usage ids are stored with offsets within the bounds."""

    async def stored_ids(self, rows: Sequence[RequestRow]) -> set[str]:
        """The usage ids of those of the rows that are stored, from whichever offset they came."""


class LogReader(Protocol):
    """Reads of the log: SQL with named parameters, never with values in its text."""

    # A row has the types of its query's columns, which the caller that wrote the query knows.
    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of the answer. Raises Unavailable where the store is away or the query took
        too long.
        """
