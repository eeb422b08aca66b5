"""GET /v1/errors: every code that this API answers with, made from the errors themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import Response

from services.common.errors import AppError
from services.gateway.entrypoints.callers import account_caller_of
from services.gateway.entrypoints.system_routes import json_response

router = APIRouter(prefix="/v1/errors", tags=["system"])

CATALOGUE_VERSION = "2026-09"
Category = Literal[
    "request", "credentials", "money", "limits", "not_found", "state", "upstream", "gateway"
]
CATEGORIES: dict[Category, str] = {
    "request": "The request is wrong: change it, `error.message` and `error.details` say where.",
    "credentials": "The key is wrong, suspended, or may not do this: use another.",
    "money": "The balance or a spend cap is used up: top up, raise the cap, or wait where told.",
    "limits": "Too many requests or tokens: wait for `Retry-After` seconds.",
    "not_found": "There is no such thing that this key may see.",
    "state": "What is there does not allow this: look, then try again.",
    "upstream": "The provider failed; nothing was billed. Try again, or another model.",
    "gateway": "The gateway failed or is starting; nothing was billed. Try again.",
}
_BY_STATUS: dict[int, Category] = {
    401: "credentials", 402: "money", 403: "credentials", 404: "not_found", 409: "state",
    429: "limits", 500: "gateway", 501: "request", 502: "upstream", 504: "upstream",
}  # fmt: skip
_BY_CODE: dict[str, Category] = {
    "service_unavailable": "gateway",
    "provider_not_available": "upstream",
    "upstream_rate_limit_error": "upstream",
    "client_gone": "request",
}


class CodeEntry(BaseModel):
    """One code: the status it comes with, what kind it is of, whether trying again may help."""

    http_status: int
    category: str
    retryable: bool


class CategoryEntry(BaseModel):
    """What a kind of error means, and what to do about it."""

    description: str


class ErrorCatalogue(BaseModel):
    """Look a code up in `codes`, then in `categories`; `default` is for codes that are not here."""

    version: str
    codes: dict[str, CodeEntry]
    categories: dict[str, CategoryEntry]
    default: CodeEntry


def error_classes() -> Iterator[type[AppError]]:
    """Every error that this process knows, base classes first."""
    waiting: list[type[AppError]] = [AppError]
    while waiting:
        found = waiting.pop(0)
        yield found
        waiting += found.__subclasses__()


def catalogue() -> ErrorCatalogue:
    """The catalogue as of the errors that are there."""
    codes: dict[str, CodeEntry] = {}
    for error in error_classes():
        if error.__module__.startswith("services.") and error.code not in codes:
            codes[error.code] = _entry(error)
    return ErrorCatalogue(
        version=CATALOGUE_VERSION,
        codes=dict(sorted(codes.items())),
        categories={name: CategoryEntry(description=text) for name, text in CATEGORIES.items()},
        default=_entry(AppError),
    )


@router.get("", response_model=ErrorCatalogue, dependencies=[Depends(account_caller_of)])
def list_errors() -> Response:
    """Every error code with its status, its category and whether to try again."""
    return json_response(catalogue().model_dump())


def _entry(error: type[AppError]) -> CodeEntry:
    category = _BY_CODE.get(error.code) or _BY_STATUS.get(error.http_status, "request")
    return CodeEntry(http_status=error.http_status, category=category, retryable=error.retryable)
