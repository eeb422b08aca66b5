"""The port of the jobs service, as a gateway worker needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from services.common.ids import AccountId, KeyId
from services.gateway.ports import KeyPrincipal

JobKind = Literal["response", "batch"]
JobState = Literal["in_progress", "completed", "cancelling", "cancelled", "expired"]
OVER: tuple[JobState, ...] = ("completed", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class NewItem:
    """One request to be run; with a status it is only to be kept."""

    number: int
    route: str
    body: bytes
    custom_id: str = ""
    http_status: int = 0
    answer: bytes = b""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be handed in. Times are Unix milliseconds."""

    job_id: str
    kind: JobKind
    model: str
    items: Sequence[NewItem]
    expires_at_ms: int
    keep_until_ms: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    context: bytes = b""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands."""

    job_id: str
    kind: JobKind
    state: JobState
    model: str
    created_at_ms: int
    # 0 while it is not over.
    completed_at_ms: int
    expires_at_ms: int
    metadata: Mapping[str, str]
    context: bytes
    background: bool
    total: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it stands; `http_status` 0 where it has not been answered."""

    number: int
    custom_id: str
    route: str
    running: bool
    http_status: int
    answer: bytes
    request_id: str


@dataclass(frozen=True, slots=True)
class Work:
    """One run of one item, which is this worker's until its lease runs out."""

    job_id: str
    number: int
    run: int
    kind: JobKind
    account_id: AccountId
    key_id: KeyId
    route: str
    body: bytes


class Jobs(Protocol):
    """Jobs of the key that calls, and work for this worker. Everything raises Unavailable where the
    service is away.
    """

    async def create(self, caller: KeyPrincipal, job: NewJob) -> Job:
        """Raises RateLimitExceeded where too many are under way."""

    async def get(self, caller: KeyPrincipal, kind: JobKind, job_id: str) -> Job:
        """Raises NotFound."""

    async def page(
        self, caller: KeyPrincipal, kind: JobKind, *, after: str, limit: int
    ) -> tuple[list[Job], bool]:
        """Newest first, and whether there are more. Raises NotFound."""

    async def cancel(self, caller: KeyPrincipal, kind: JobKind, job_id: str) -> Job:
        """Raises NotFound."""

    async def items(self, caller: KeyPrincipal, kind: JobKind, job_id: str) -> list[Item]:
        """All of them, by number. Raises NotFound."""

    async def claim(self, limit: int, *, lease_s: float) -> list[Work]:
        """Work for this worker."""

    async def renew(self, work: Sequence[Work], *, lease_s: float) -> set[Work]:
        """Those that are still this worker's."""

    async def finish(self, work: Work, *, http_status: int, answer: bytes, request_id: str) -> bool:
        """False where the run is not this worker's any more: its answer must not be billed. A
        second time says the same.
        """

    async def put_back(self, work: Work, *, delay_s: float) -> bool:
        """Has the item wait. False where the run is not this worker's any more."""
