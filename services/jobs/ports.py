"""What the jobs service needs of the world: one store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.jobs.domain.job import Item, Job, JobKind, NewJob, Owner, Run, Work

# A page of items ends once it has this many bytes.
PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a run."""

    http_status: int
    body: bytes
    request_id: str


class JobStore(Protocol):
    """Jobs and their items. Times are Unix milliseconds; each method is one transaction."""

    async def create(self, job: NewJob) -> Job:
        """Raises RateLimitExceeded where the key has as many of the kind under way as it may, and
        Conflict where the id is taken.
        """

    async def get(self, owner: Owner, kind: JobKind, job_id: str) -> Job:
        """Raises NotFound, for jobs of others too."""

    async def page(
        self, owner: Owner, kind: JobKind, *, after: str, limit: int
    ) -> tuple[list[Job], bool]:
        """Jobs in the background, newest first, and whether there are more. Raises NotFound where
        `after` is none of them.
        """

    async def cancel(self, owner: Owner, kind: JobKind, job_id: str, *, now_ms: int) -> Job:
        """Nothing of it begins from here on. A job that is over stays what it is. Raises
        NotFound.
        """

    async def items(
        self, owner: Owner, kind: JobKind, job_id: str, *, after_number: int
    ) -> tuple[list[Item], bool]:
        """Items by number, about `PAGE_BYTES` of them, and whether there are more. Raises
        NotFound.
        """

    async def claim(self, worker_id: str, *, limit: int, now_ms: int, lease_ms: int) -> list[Work]:
        """Items that wait, or whose worker has let its lease run out, are this worker's now."""

    async def renew(
        self, worker_id: str, runs: Sequence[Run], *, now_ms: int, lease_ms: int
    ) -> list[Run]:
        """Prolongs the leases of those that are still this worker's; returns them."""

    async def finish(self, worker_id: str, run: Run, answer: Answer, *, now_ms: int) -> bool:
        """Ends an item; the same run may do so twice. False where the run is not this worker's any
        more: nothing changes.
        """

    async def put_back(self, worker_id: str, run: Run, not_before_ms: int) -> bool:
        """Has an item wait. False where the run is not this worker's any more."""

    async def sweep(self, now_ms: int) -> int:
        """Gives up what has expired or was run too often, forgets what need not be kept; returns
        how many jobs and items that were.
        """
