"""A job and its items: pure.

A job is one item (a response in the background, or one that is kept) or many (a batch). An item is
run by one worker at a time, under a lease; each run has a number, so that a worker that was given
up for dead cannot answer for the one that took over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.common.errors import InvalidArgument
from services.common.ids import AccountId, KeyId, UserId

JobKind = Literal["response", "batch"]
JobState = Literal["in_progress", "completed", "cancelling", "cancelled", "expired"]
ItemState = Literal["queued", "running", "done", "cancelled"]

# How many jobs of a kind a key may have under way.
ACTIVE_MAX: Mapping[JobKind, int] = {"response": 10, "batch": 10}
ITEMS_MAX = 10_000
# After so many runs that came to nothing an item has failed.
RUNS_MAX = 20
PREFIXES: Mapping[JobKind, str] = {"response": "resp_", "batch": "batch_"}
CRASHED_STATUS = 500


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose jobs are looked at: one key's of one account."""

    account_id: AccountId
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class NewItem:
    """One request to be run; or, with an answer, one that was."""

    number: int
    route: str
    body: bytes
    custom_id: str = ""
    http_status: int = 0
    answer: bytes = b""
    request_id: str = ""

    @property
    def done(self) -> bool:
        """True where it is only to be kept."""
        return self.http_status != 0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is handed in. Times are Unix milliseconds."""

    job_id: str
    kind: JobKind
    owner: Owner
    user_id: UserId
    model: str
    created_at_ms: int
    expires_at_ms: int
    keep_until_ms: int
    metadata_json: str
    context: bytes
    items: Sequence[NewItem]

    @property
    def background(self) -> bool:
        """True where something is to be run."""
        return any(not item.done for item in self.items)

    def check(self) -> None:
        """Raises InvalidArgument where it cannot be a job."""
        if not self.job_id.startswith(PREFIXES[self.kind]) or len(self.job_id) > 64:
            raise InvalidArgument.of("job_id", f"is no id of a {self.kind}")
        if not 1 <= len(self.items) <= ITEMS_MAX:
            raise InvalidArgument.of("items", f"give 1 to {ITEMS_MAX} items")
        if self.kind == "response" and len(self.items) != 1:
            raise InvalidArgument.of("items", "a response is one item")
        if [item.number for item in self.items] != list(range(1, len(self.items) + 1)):
            raise InvalidArgument.of("items", "are numbered from 1 on")
        if not self.created_at_ms < self.expires_at_ms <= self.keep_until_ms:
            raise InvalidArgument.of("expires_at_ms", "lies between creation and keep_until_ms")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands."""

    job_id: str
    kind: JobKind
    owner: Owner
    model: str
    created_at_ms: int
    completed_at_ms: int
    expires_at_ms: int
    metadata_json: str
    context: bytes
    background: bool
    total: int
    # Items that ended well, that ended badly, and that have not ended.
    completed: int
    failed: int
    open: int
    cancelled: bool = False
    expired: bool = False

    @property
    def state(self) -> JobState:
        """Over when no item is open; until then cancelled ones wait for what is running."""
        if self.cancelled:
            return "cancelling" if self.open else "cancelled"
        if self.expired and not self.open:
            return "expired"
        return "in_progress" if self.open else "completed"


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it stands."""

    number: int
    custom_id: str
    route: str
    body: bytes
    state: ItemState
    http_status: int = 0
    answer: bytes = b""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to answer an item."""

    job_id: str
    number: int
    run: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is to do."""

    run: Run
    kind: JobKind
    owner: Owner
    route: str
    body: bytes


def is_success(http_status: int) -> bool:
    """True where an item with this status counts as completed."""
    return 200 <= http_status < 300
