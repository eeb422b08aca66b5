"""Routes about the gateway itself: versions, liveness, readiness, the description of the API."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import Response

from services.gateway.entrypoints.app import PublicReads, reads_of
from services.gateway.entrypoints.callers import account_caller_of
from services.gateway.envelope import API_VERSIONS, BASELINE_VERSION, LATEST_VERSION

router = APIRouter()

_RELEASED = {"2026-08": "2026-08-01", "2026-09": "2026-09-01"}
_CAPABILITIES = {"2026-08": [], "2026-09": ["video.poll_by_request_id"]}

Reads = Annotated[PublicReads, Depends(reads_of)]


def json_response(content: object, status: int = 200) -> Response:
    """JSON by orjson, past the framework's encoder."""
    return Response(orjson.dumps(content), status, media_type="application/json")


class ApiVersion(BaseModel):
    """One version of the API; `capabilities` are those of the older ones too."""

    label: str
    status: str
    baseline: bool
    latest: bool
    released_on: str
    sunset_on: str | None
    capabilities: list[str]


class Alive(BaseModel):
    """The process runs."""

    alive: bool


class Readiness(BaseModel):
    """Whether the worker may get work, and what is missing where it may not."""

    ready: bool
    not_ready: list[str]


@router.get(
    "/v1/api-versions",
    tags=["system"],
    response_model=list[ApiVersion],
    dependencies=[Depends(account_caller_of)],
)
def api_versions() -> Response:
    """The versions that are served, oldest first."""
    return json_response(
        [
            {
                "label": label,
                "status": "ga",
                "baseline": label == BASELINE_VERSION,
                "latest": label == LATEST_VERSION,
                "released_on": _RELEASED[label],
                "sunset_on": None,
                "capabilities": _CAPABILITIES[label],
            }
            for label in API_VERSIONS
        ]
    )


@router.get("/healthz", tags=["system"], response_model=Alive)
def healthz() -> Response:
    """The process is alive."""
    return json_response({"alive": True})


@router.get(
    "/readyz",
    tags=["system"],
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Not ready."}},
)
def readyz(reads: Reads) -> Response:
    """The worker may get work; 503 and what is missing where it may not."""
    missing = reads.not_ready()
    return json_response({"ready": not missing, "not_ready": missing}, 503 if missing else 200)
