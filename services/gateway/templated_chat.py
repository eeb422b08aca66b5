"""A request out of its body, its key's defaults and its template, in that precedence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.common.errors import FieldError, InvalidArgument
from services.gateway.chat_request import ChatRequest, Operation
from services.gateway.ports import KeyPrincipal
from services.gateway.requests import request_from_body
from services.gateway.templates import TemplateDirectory, with_template


def request_over_template(
    operation: Operation,
    given: Mapping[str, Any],  # Any: JSON
    principal: KeyPrincipal,
    *,
    directory: TemplateDirectory,
) -> ChatRequest:
    """The checked request; only conversations have templates.

    Raises InvalidArgument, whose places are those of the body as it was sent, NotFound and
    UnprocessableEntity for templates, NotImplementedHere.
    """
    body, before = given, 0
    if operation == "chat":
        body, before = with_template(given, principal, directory)
    try:
        return request_from_body(operation, body, principal.settings)
    except InvalidArgument as error:
        if not before or not error.details:
            raise
        details = [_placed(fault, before) for fault in error.details]
        first = details[0]
        name = ".".join(str(part) for part in first.loc[1:])
        raise type(error)(f"{name}: {first.msg}", details=details) from error


def _placed(fault: FieldError, before: int) -> FieldError:
    """A fault of a message, counted among the caller's own or among the template's."""
    match fault.loc:
        case ("body", "messages", int(place), *rest) if place >= before:
            return replace(fault, loc=("body", "messages", place - before, *rest))
        case ("body", "messages", int(place), *rest):
            return replace(fault, loc=("body", "template", "messages", place, *rest))
        case _:
            return fault
