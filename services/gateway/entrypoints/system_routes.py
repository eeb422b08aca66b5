"""Routes about the gateway itself: versions, liveness, readiness, the description of the API."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.responses import Response

from services.gateway.entrypoints.app import PublicReads, caller_of, reads_of
from services.gateway.entrypoints.chat_lane import ROUTE
from services.gateway.envelope import API_VERSIONS, BASELINE_VERSION, LATEST_VERSION

router = APIRouter()

_RELEASED = {"2026-08": "2026-08-01", "2026-09": "2026-09-01"}
_CAPABILITIES = {"2026-08": [], "2026-09": ["video.poll_by_request_id"]}

Reads = Annotated[PublicReads, Depends(reads_of)]


def json_response(content: object, status: int = 200) -> Response:
    """JSON by orjson, past the framework's encoder."""
    return Response(orjson.dumps(content), status, media_type="application/json")


@router.get("/v1/api-versions", tags=["system"], dependencies=[Depends(caller_of)])
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


@router.get("/healthz", tags=["system"])
def healthz() -> Response:
    """The process is alive."""
    return json_response({"alive": True})


@router.get("/readyz", tags=["system"])
def readyz(reads: Reads) -> Response:
    """The worker may get work; 503 and what is missing where it may not."""
    missing = reads.not_ready()
    return json_response({"ready": not missing, "not_ready": missing}, 503 if missing else 200)


def with_chat_route(schema: dict[str, Any]) -> dict[str, Any]:  # Any: an OpenAPI document
    """The API's description with the route that the framework never sees."""
    message = {"type": "object", "required": ["role"], "additionalProperties": True}
    request = {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "messages": {"type": "array", "minItems": 1, "items": message},
            "model": {"type": "string"},
            "models": {"type": "array", "items": {"type": "string"}},
            "stream": {"type": "boolean", "default": False},
            "max_tokens": {"type": "integer", "minimum": 1},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "top_p": {"type": "number", "minimum": 0, "maximum": 1},
            "session_id": {"type": "string", "maxLength": 256},
            "end_user_id": {"type": "string", "maxLength": 256},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "additionalProperties": True,
    }
    schema.setdefault("paths", {})[ROUTE] = {
        "post": {
            "tags": ["chat"],
            "summary": "Answer a conversation, whole or as a stream of server-sent events.",
            "operationId": "create_chat_completion",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": request}},
            },
            "responses": {
                "200": {
                    "description": "A chat.completion, or its chunks where `stream` is true.",
                    "content": {
                        "application/json": {"schema": {"type": "object"}},
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                },
                "default": {"description": "The error envelope."},
            },
        }
    }
    return schema
