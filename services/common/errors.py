"""The errors of the product: each has a stable code, a status for each edge, and says whether to
try again.

AppError
  InvalidArgument        422 / INVALID_ARGUMENT      validation_error: names the field that is wrong
    BadRequest           400 / INVALID_ARGUMENT      bad_request: not even parseable
  Unauthorized           401 / UNAUTHENTICATED       unauthorized
  Forbidden              403 / PERMISSION_DENIED     forbidden
  NotFound               404 / NOT_FOUND             not_found
    ModelNotFound        404 / NOT_FOUND             model_not_found
  Conflict               409 / ALREADY_EXISTS        conflict
  ConcurrencyConflict    409 / ABORTED               conflict: another writer was first; retryable
  SpendLimitExceeded     402 / RESOURCE_EXHAUSTED    spend_limit_exceeded: names the limit
  RateLimitExceeded      429 / RESOURCE_EXHAUSTED    rate_limit_exceeded
  Unavailable            503 / UNAVAILABLE           service_unavailable: retryable
  UpstreamError          502 / UNAVAILABLE           upstream_error
    ProviderNotAvailable 503 / UNAVAILABLE           provider_not_available
    GatewayTimeout       504 / DEADLINE_EXCEEDED     gateway_timeout
  InternalError          500 / INTERNAL              internal_error
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with the input: where (`loc`), of what kind, in words."""

    loc: tuple[str | int, ...]
    msg: str
    type: str = "value_error"


class AppError(Exception):
    """Base of every error that an edge renders; anything else is an internal error."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.retry_after_s = retry_after_s
        # Further facts for the caller, by name; never a secret.
        self.extra = dict(extra or {})


class InvalidArgument(AppError):
    code, http_status, grpc_status = "validation_error", 422, "INVALID_ARGUMENT"

    @classmethod
    def of(cls, field: str, message: str) -> InvalidArgument:
        """The error for one field; the message starts with its name."""
        return cls(f"{field}: {message}", details=[FieldError(tuple(field.split(".")), message)])


class BadRequest(InvalidArgument):
    code, http_status = "bad_request", 400


class Unauthorized(AppError):
    code, http_status, grpc_status = "unauthorized", 401, "UNAUTHENTICATED"


class Forbidden(AppError):
    code, http_status, grpc_status = "forbidden", 403, "PERMISSION_DENIED"


class NotFound(AppError):
    code, http_status, grpc_status = "not_found", 404, "NOT_FOUND"


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(AppError):
    code, http_status, grpc_status = "conflict", 409, "ALREADY_EXISTS"


class ConcurrencyConflict(AppError):
    code, http_status, grpc_status, retryable = "conflict", 409, "ABORTED", True


class SpendLimitExceeded(AppError):
    code, http_status, grpc_status = "spend_limit_exceeded", 402, "RESOURCE_EXHAUSTED"


class RateLimitExceeded(AppError):
    code, http_status, grpc_status, retryable = (
        "rate_limit_exceeded",
        429,
        "RESOURCE_EXHAUSTED",
        True,
    )


class Unavailable(AppError):
    code, http_status, grpc_status, retryable = "service_unavailable", 503, "UNAVAILABLE", True


class UpstreamError(AppError):
    code, http_status, grpc_status, retryable = "upstream_error", 502, "UNAVAILABLE", True


class ProviderNotAvailable(UpstreamError):
    code, http_status = "provider_not_available", 503


class GatewayTimeout(UpstreamError):
    code, http_status, grpc_status = "gateway_timeout", 504, "DEADLINE_EXCEEDED"


class InternalError(AppError):
    pass
