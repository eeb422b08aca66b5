"""How answers look whatever they say: request ids, API versions, the envelope of every error."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from services.common.errors import AppError, FieldError
from services.common.ids import RequestId, new_id
from services.gateway.errors import InvalidApiVersion
from services.gateway.ports import QuotaMeter

API_VERSIONS = ("2026-08", "2026-09")
BASELINE_VERSION = API_VERSIONS[0]
LATEST_VERSION = API_VERSIONS[-1]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Ending:
    """The last of an answer: all of it, or the last bytes of a stream that is under way."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


def request_id_from(given: bytes | None) -> RequestId:
    """The client's own id where it is well-formed, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return RequestId(given.decode("ascii"))
    return RequestId(new_id("req"))


def api_version_from(given: Iterable[bytes]) -> str:
    """The version that serves a request with these X-Mesh-Version headers; raises
    InvalidApiVersion.
    """
    labels = {label.strip() for label in given}
    if not labels:
        return BASELINE_VERSION
    known = next((v for v in API_VERSIONS if labels == {v.encode()}), None)
    if known is None:
        raise InvalidApiVersion(f"X-Mesh-Version: this API serves {', '.join(API_VERSIONS)}")
    return known


def rate_limit_headers(meters: Iterable[QuotaMeter]) -> list[tuple[bytes, bytes]]:
    """`x-ratelimit-{limit,remaining,reset}-requests` and `-tokens`, for the limits that there are.

    Of two limits of requests the one is shown of which less is left. Resets are whole seconds with
    their unit, such as `37s`.
    """
    headers = []
    by_left = sorted(meters, key=lambda meter: (meter.left, -meter.resets_in_s))
    for what in ("requests", "tokens"):
        meter = next((m for m in by_left if (m.limit == "tpm") == (what == "tokens")), None)
        if meter is not None:
            shown = {
                "limit": str(meter.limit_value),
                "remaining": str(meter.left),
                "reset": f"{math.ceil(meter.resets_in_s)}s",
            }
            headers += [
                (f"x-ratelimit-{name}-{what}".encode(), value.encode())
                for name, value in shown.items()
            ]
    return headers


def error_object(error: AppError) -> dict[str, Any]:  # Any: JSON
    """The `error` of an envelope."""
    shown: dict[str, Any] = {"code": error.code, "message": error.message}  # Any: JSON
    if error.details:
        shown["details"] = [_detail(fault) for fault in error.details]
    if error.retry_after_s is not None:
        shown["retry_after_seconds"] = error.retry_after_s
    if isinstance(error, InvalidApiVersion):
        shown["supported_versions"] = list(API_VERSIONS)
    # Further facts never displace the fixed ones.
    return {**error.extra, **shown}


def error_ending(error: AppError, request_id: RequestId) -> Ending:
    """A whole answer that says what went wrong."""
    body = orjson.dumps({"error": error_object(error), "request_id": request_id})
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if error.retry_after_s is not None:
        headers = ((b"retry-after", str(error.retry_after_s).encode()),)
    return Ending(error.http_status, body, headers)


def error_frames(error: AppError, request_id: RequestId) -> bytes:
    """The last frames of a stream that broke off."""
    shown = {"error": error_object(error), "request_id": request_id}
    return b"data: " + orjson.dumps(shown) + b"\n\n" + DONE_FRAME


DONE_FRAME = b"data: [DONE]\n\n"


def _detail(fault: FieldError) -> dict[str, Any]:  # Any: JSON
    return {"type": fault.type, "loc": list(fault.loc), "msg": fault.msg}
