"""What the usage service needs of the outside: a store that the sink writes and one that views
read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from services.usage.domain.analyst import Analyst
from services.usage.domain.content_row import CONTENT_COLUMNS, ContentRow
from services.usage.domain.ledger_row import LEDGER_COLUMNS, LedgerRow
from services.usage.domain.row import COLUMNS, RequestRow


class LogRow(Protocol):
    """What the rows of every table of the sink have in common: an account, and the message of the
    log that they were made of.
    """

    @property
    def account_id(self) -> str: ...

    @property
    def log_topic(self) -> str: ...

    @property
    def log_partition(self) -> int: ...

    @property
    def log_offset(self) -> int: ...


Row = TypeVar("Row", bound=LogRow)


@dataclass(frozen=True, slots=True)
class RowTable(Generic[Row]):
    """A table that the sink fills: its columns, and the two by which a row is found again.

    The sorting key is (account_id, `time_column`, `id_column`), and a part is of one month of
    `time_column` at most. Times are Unix milliseconds.
    """

    name: str
    columns: tuple[str, ...]
    id_column: str
    time_column: str
    id_of: Callable[[Row], str]
    time_of: Callable[[Row], int]


REQUESTS: RowTable[RequestRow] = RowTable(
    "requests",
    COLUMNS,
    "usage_id",
    "received_at",
    id_of=lambda row: row.usage_id,
    time_of=lambda row: row.received_at,
)
LEDGER_TRANSACTIONS: RowTable[LedgerRow] = RowTable(
    "ledger_transactions",
    LEDGER_COLUMNS,
    "transaction_id",
    "occurred_at",
    id_of=lambda row: row.transaction_id,
    time_of=lambda row: row.occurred_at,
)

CONTENTS: RowTable[ContentRow] = RowTable(
    "request_contents",
    CONTENT_COLUMNS,
    "usage_id",
    "received_at",
    id_of=lambda row: row.usage_id,
    time_of=lambda row: row.received_at,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """One batch of one partition: first and last offset, both inclusive, how many distinct rows it
    holds, and whether they were seen to be all stored.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    row_count: int
    is_complete: bool = False

    @property
    def token(self) -> str:
        """What an insert of this batch is deduplicated by; one of several batches has their tokens
        in one.
        """
        return f"{self.topic}:{self.partition}:{self.first_offset}-{self.last_offset}"


class SinkStore(Protocol[Row]):
    """Where the sink keeps rows and its position. Every method raises Unavailable where the
    store is away.
    """

    @property
    def table(self) -> RowTable[Row]:
        """Which table the rows are of."""

    async def claim(self, topic: str, partition: int) -> int:
        """Takes the partition over: a new epoch, higher than any before."""

    async def epoch(self, topic: str, partition: int) -> int:
        """The epoch of the newest claim; 0 where there is none."""

    async def last_batch(self, topic: str, partition: int) -> Bounds | None:
        """The bounds that were recorded last."""

    async def record(self, bounds: Bounds, epoch: int) -> None:
        """Writes the bounds down, durably: before the rows are inserted, and again, as complete,
        once they are known to be stored.
        """

    async def insert(self, bounds: Bounds, rows: Sequence[Row]) -> None:
        """Inserts the rows of the batch, perhaps in one with batches of other partitions. Whoever
        is not sure that they are stored looks them up first: an earlier insert of the same rows is
        not known for certain to the store.
        """

    async def insert_missing(self, rows: Sequence[Row]) -> None:
        """Inserts rows that were looked for and not found, whatever was inserted before."""

    async def stored_count(self, bounds: Bounds) -> int:
        """How many distinct ids are stored with offsets within the bounds."""

    async def stored_ids(self, rows: Sequence[Row]) -> set[str]:
        """The ids of those of the rows that are stored, from whichever offset they came."""


class LogReader(Protocol):
    """Reads of the log: SQL with named parameters, never with values in its text."""

    # A row has the types of its query's columns, which the caller that wrote the query knows.
    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of the answer. Raises Unavailable where the store is away or the query took
        too long.
        """


class AnalystStore(Protocol):
    """Where analysts are kept. Every method raises Unavailable where the store is away."""

    async def analysts(self) -> list[Analyst]:
        """All of them, as last saved."""

    async def save(self, analyst: Analyst) -> None:
        """Keeps the analyst, durably, and lets it in or locks it out where the store itself does
        that.
        """
