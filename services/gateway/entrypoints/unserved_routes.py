"""Routes of the public API that this gateway does not serve: 501 in the envelope, so that SDKs know
that it is the feature that is missing and not the path.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from services.gateway.entrypoints.app import caller_of
from services.gateway.errors import NotImplementedHere

router = APIRouter(prefix="/v1", tags=["not served"])

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
# What is missing, and the routes below /v1 that it has.
FEATURES: dict[str, tuple[tuple[str, str], ...]] = {
    "images": (("POST", "/images/generations"), ("POST", "/images/edits")),
    "audio": (
        ("POST", "/audio/speech"),
        ("POST", "/audio/transcriptions"),
        ("POST", "/audio/transcriptions/translate"),
        ("POST", "/audio/translations"),
        ("GET", "/audio/transcriptions/{transcription_id}"),
        ("GET", "/audio/voices"),
        ("GET", "/audio/voices/{voice_id}"),
    ),
    "video": (
        ("POST", "/video/generations"),
        ("GET", "/video/generations"),
        ("GET", "/video/generations/{generation_id}"),
    ),
    "files": (
        ("POST", "/files"),
        ("GET", "/files"),
        ("GET", "/files/{file_id}"),
        ("POST", "/files/embed"),
        ("POST", "/files/search"),
    ),
    "web search": (("POST", "/web/search"),),
    "memory": (
        ("GET", "/memories"),
        ("POST", "/memories"),
        ("GET", "/memories/{slug}/items"),
        ("POST", "/memories/{slug}/items"),
    ),
    "provider keys of your own": (("GET", "/provider-keys"), ("POST", "/provider-keys/{provider}")),
}
_PREFIXES = {
    "images": "images", "audio": "audio", "video": "video", "files": "files", "web": "web search",
    "memories": "memory", "provider-keys": "provider keys of your own",
}  # fmt: skip


async def _refuse(request: Request) -> Response:
    feature = _PREFIXES[request.url.path.split("/")[2]]
    raise NotImplementedHere(f"{feature}: not served by this gateway")


for _feature, _routes in FEATURES.items():
    for _method, _path in _routes:
        router.add_api_route(
            _path,
            _refuse,
            methods=[_method],
            status_code=501,
            summary=f"Not served ({_feature}).",
            operation_id=f"unserved_{_method.lower()}_{_path.strip('/').replace('/', '_')}",
            dependencies=[Depends(caller_of)],
        )
for _prefix in _PREFIXES:
    for _path in (f"/{_prefix}", f"/{_prefix}/{{rest:path}}"):
        router.add_api_route(
            _path,
            _refuse,
            methods=_METHODS,
            include_in_schema=False,
            dependencies=[Depends(caller_of)],
        )


@router.get("/realtime", status_code=501, summary="Not served (realtime).")
async def realtime() -> Response:
    """Answers without a key: a browser's WebSocket cannot send the header."""
    raise NotImplementedHere("realtime: not served by this gateway")
