"""What the edge reads from the head of every request, in one pass over the headers."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common.errors import AppError
from services.common.ids import RequestId
from services.gateway.entrypoints.asgi import EXPOSED, HangUp, HeaderList
from services.gateway.envelope import (
    API_VERSIONS,
    BASELINE_VERSION,
    api_version_from,
    request_id_from,
)
from services.gateway.errors import InvalidApiVersion


@dataclass(slots=True)
class RequestHead:
    """The facts of one request's head. `fault` is what must be answered before anything else is
    looked at.
    """

    request_id: RequestId
    api_version: str
    # True where the request named its version itself.
    version_given: bool = False
    authorization: bytes | None = None
    # Where Anthropic's SDKs put the key.
    api_key: bytes | None = None
    traceparent: str = ""
    weight_profile: str = ""
    # True where the caller wants neither to be answered out of the response cache nor kept there.
    cache_bypass: bool = False
    content_length: int = 0
    # True where an OpenAI SDK calls, which wants lists in an envelope of its own.
    openai_sdk: bool = False
    fault: AppError | None = None
    hang_up: HangUp = field(default_factory=HangUp)
    # What every answer carries.
    answer_headers: HeaderList = field(default_factory=list)


def head_from(headers: HeaderList) -> RequestHead:
    """The head of a request; a bad version is noted, not raised, because its answer has a request
    id too.
    """
    given_id: bytes | None = None
    versions: list[bytes] = []
    head = RequestHead(request_id=RequestId(""), api_version=BASELINE_VERSION)
    meshapi_sdk = False
    for name, value in headers:
        if name == b"authorization":
            head.authorization = value
        elif name == b"content-length":
            head.content_length = int(value) if value.isdigit() else 0
        elif name == b"x-request-id":
            given_id = value
        elif name == b"x-mesh-version":
            versions.append(value)
        elif name == b"x-api-key":
            head.api_key = value
        elif name == b"traceparent":
            head.traceparent = value.decode("latin-1")
        elif name == b"x-mesh-weight-profile":
            head.weight_profile = value.decode("latin-1").strip()
        elif name == b"x-mesh-cache":
            head.cache_bypass = value.strip().lower() == b"no-store"
        elif name == b"x-meshapi-sdk":
            meshapi_sdk = True
        elif name == b"x-stainless-lang" or (name == b"user-agent" and b"OpenAI/" in value):
            head.openai_sdk = True
    head.openai_sdk = head.openai_sdk and not meshapi_sdk
    head.request_id = request_id_from(given_id)
    head.version_given = bool(versions)
    try:
        head.api_version = api_version_from(versions)
    except InvalidApiVersion as fault:
        head.fault = fault
    serve_with(head, head.api_version)
    return head


def serve_with(head: RequestHead, version: str) -> None:
    """Has this version serve the request; one that is not served any more changes nothing."""
    if version in API_VERSIONS:
        head.api_version = version
    head.answer_headers = [
        (b"x-request-id", head.request_id.encode()),
        (b"x-mesh-version", head.api_version.encode()),
        EXPOSED,
    ]
