"""How the jobs service refuses."""

from __future__ import annotations

from services.common.errors import NotFound, RateLimitExceeded
from services.jobs.domain.job import ACTIVE_MAX, JobKind


def too_many_jobs(kind: JobKind) -> RateLimitExceeded:
    """The key has as many jobs of the kind under way as it may."""
    plural = {"response": "responses in the background", "batch": "batches"}[kind]
    return RateLimitExceeded(
        f"this key has {ACTIVE_MAX[kind]} {plural} under way, which is the most",
        extra={"limit": f"active_{kind}"},
    )


def no_such_job(kind: JobKind, job_id: str) -> NotFound:
    """There is no such job of the key that asks."""
    return NotFound(f"there is no {kind} {job_id!r}")
