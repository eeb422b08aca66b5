"""The errors that only the public edge knows, beside those of `services.common.errors`.

AppError
  InvalidArgument
    BadRequest
      InvalidApiVersion      400 invalid_api_version: names the versions that are served
      ContextWindowExceeded  400 context_window_exceeded: the prompt does not fit the model
      InvalidRequest         400 invalid_request: the provider would not take it
      CapabilityNotSupported 400 model_capability_not_supported
      MixedModels            400 mixed_models: a batch has one model
  BatchLimitExceeded         429 batch_limit_exceeded: too many batches under way
    UnprocessableEntity      422 unprocessable_entity: a template's variable is missing
  NotImplementedHere         501 not_implemented
  PayloadTooLarge            413 payload_too_large
  MethodNotAllowed           405 method_not_allowed
  ClientGone                 499 client_gone: only for the log
  UpstreamRateLimited        429 upstream_rate_limit_error: never billed, the caller may send it
  again UpstreamCredentials        502 upstream_error: the operator's own account was turned down
"""

from __future__ import annotations

from services.common.errors import (
    AppError,
    BadRequest,
    InvalidArgument,
    RateLimitExceeded,
    UpstreamError,
)


class InvalidApiVersion(BadRequest):
    code = "invalid_api_version"


class ContextWindowExceeded(BadRequest):
    code = "context_window_exceeded"


class InvalidRequest(BadRequest):
    code = "invalid_request"


class CapabilityNotSupported(BadRequest):
    code = "model_capability_not_supported"


class UnprocessableEntity(InvalidArgument):
    code = "unprocessable_entity"


class NotImplementedHere(AppError):
    code, http_status, grpc_status = "not_implemented", 501, "UNIMPLEMENTED"


class MixedModels(BadRequest):
    code = "mixed_models"


class BatchLimitExceeded(RateLimitExceeded):
    code = "batch_limit_exceeded"


class PayloadTooLarge(AppError):
    code, http_status, grpc_status = "payload_too_large", 413, "INVALID_ARGUMENT"


class MethodNotAllowed(AppError):
    code, http_status, grpc_status = "method_not_allowed", 405, "UNIMPLEMENTED"


class UpstreamRateLimited(UpstreamError):
    code, http_status = "upstream_rate_limit_error", 429


class UpstreamCredentials(UpstreamError):
    """The provider refused our credential; callers learn no more than that the upstream failed."""


class ClientGone(AppError):
    """The caller hung up; nobody reads the answer, the log shows it as 499."""

    code, http_status, grpc_status = "client_gone", 499, "CANCELLED"
