"""Our errors over gRPC: a status for everyone, and the whole error as JSON in a trailer for our
own clients.
"""

from __future__ import annotations

import grpc
import orjson

from services.common import errors
from services.common.errors import AppError, FieldError

TRAILER = "mesh-error-bin"


def _tree(cls: type[AppError]) -> list[type[AppError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _tree(child))]


_FLOOR = [cls for cls in _tree(AppError) if cls.__module__ == errors.__name__]
_BY_NAME = {cls.__name__: cls for cls in _FLOOR}
# The first class of a status is the most general one, for errors that no server of ours made.
_BY_STATUS: dict[str, type[AppError]] = {
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "UNAUTHENTICATED": errors.Unauthorized,
    "PERMISSION_DENIED": errors.Forbidden,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.Conflict,
    "ABORTED": errors.ConcurrencyConflict,
    "RESOURCE_EXHAUSTED": errors.RateLimitExceeded,
    # A deadline says nothing about whether the call took effect; callers retry what is idempotent.
    "DEADLINE_EXCEEDED": errors.Unavailable,
    "UNAVAILABLE": errors.Unavailable,
    "CANCELLED": errors.Unavailable,
}


def status_of(error: AppError) -> grpc.StatusCode:
    """The gRPC status of one of our errors."""
    return grpc.StatusCode[error.grpc_status]


def trailer_of(error: AppError) -> bytes:
    """The error as JSON: class, message, details, seconds to wait, extra facts."""
    cls = next(c for c in type(error).__mro__ if c in _FLOOR)
    return orjson.dumps(
        {
            "class": cls.__name__,
            "code": error.code,
            "message": error.message,
            "details": [
                {"loc": list(detail.loc), "msg": detail.msg, "type": detail.type}
                for detail in error.details
            ],
            "retry_after_s": error.retry_after_s,
            "extra": error.extra,
        }
    )


def app_error_from_trailer(raw: bytes) -> AppError | None:
    """The error of a trailer; None where it is none of ours."""
    try:
        body = orjson.loads(raw)
        return _BY_NAME[body["class"]](
            body["message"],
            details=[
                FieldError(tuple(d["loc"]), d["msg"], d["type"]) for d in body.get("details", ())
            ],
            retry_after_s=body.get("retry_after_s"),
            extra=body.get("extra"),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def app_error_from_rpc(error: grpc.aio.AioRpcError) -> AppError:
    """Ours for a failed call: the same class that the server raised, else the nearest to the
    status.
    """
    for key, value in error.trailing_metadata() or ():
        if key == TRAILER and isinstance(value, bytes):
            found = app_error_from_trailer(value)
            if found is not None:
                return found
    status = error.code().name
    cls = _BY_STATUS.get(status, errors.InternalError)
    return cls(f"{status}: {error.details() or 'no details'}")
