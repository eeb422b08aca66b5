"""The description of the whole HTTP surface, made from the routes: `/openapi.json`,
`docs/openapi.json`, `docs/api/`.

Every route of the framework is in it by itself; what is added here is what the framework cannot
know: the chat lane, the envelope of every error, the headers of every answer, and the credentials.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from services.gateway.entrypoints.chat_docs import chat_operation, chat_schemas
from services.gateway.entrypoints.chat_lane import ROUTE
from services.gateway.entrypoints.examples import show

Json = dict[str, Any]  # Any: an OpenAPI document and its parts

# What the groups are for; groups that are not here have a page without an introduction.
TAGS: dict[str, str] = {
    "chat": "Conversations with any model, in OpenAI's format.",
    "embeddings": "Vectors of texts.",
    "moderations": "Verdicts on texts, where a provider offers them.",
    "messages": "The same conversations in the format of Anthropic's Messages API.",
    "responses": "The same conversations in the format of OpenAI's Responses API.",
    "compare": "One conversation, several models, side by side.",
    "router": "Which model `auto` takes.",
    "models": "The catalogue with prices, as decimal strings of US dollars per million tokens.",
    "templates": "Prompts kept on the server, with slots `{{ name }}` and a version for every "
    "change. A request names one in `template` and fills it by `variables`. What the request says "
    "comes before the key's defaults, and those before the template's.",
    "account": "What a key may read of its account; people and admin keys with "
    "`org:read` see all of it.",
    "alerts": "What the account is told of its money and its errors; for people and for admin keys "
    "with `alerts:read` or `alerts:write`.",
    "keys": "API keys, for people and admin keys: no API key can make another.",
    "admin keys": "Keys `mak_` for scripts that manage the account, as the person who made them.",
    "usage": "Every request, what it cost and how it ended.",
    "batches": "Many conversations in one job.",
    "system": "Versions, errors, probes.",
    "not served": "Parts of the public API that this gateway does not serve: 501.",
}
_OPEN_PATHS = ("/healthz", "/readyz", "/v1/realtime")
_METHODS = ("get", "post", "put", "patch", "delete")
_ERROR_REF = {"$ref": "#/components/responses/Error"}
_HEADERS = {
    "x-request-id": {"$ref": "#/components/headers/RequestId"},
    "x-mesh-version": {"$ref": "#/components/headers/MeshVersion"},
}
_ENVELOPE: Json = {
    "type": "object",
    "description": "Every error. `code` is stable, `message` is for people.",
    "required": ["error", "request_id"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["type", "loc", "msg"],
                        "properties": {
                            "type": {"type": "string"},
                            "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                            "msg": {"type": "string"},
                        },
                    },
                },
                "retry_after_seconds": {"type": "integer", "minimum": 0},
                "provider_code": {"type": "string"},
                "provider_error": {"type": "object"},
            },
        },
        "request_id": {"type": "string"},
    },
}
_REQUEST_ID = "req_01JZ0000000000000000000000"
# The errors that most callers meet, by their code.
_ERRORS: tuple[Json, ...] = (
    {
        "code": "rate_limit_exceeded",
        "message": "this key's limit of 60 requests per minute is used up",
        "retry_after_seconds": 12,
    },
    {"code": "unauthorized", "message": "the API key is unknown, revoked or expired"},
    {"code": "forbidden", "message": "this API key is suspended"},
    {"code": "spend_limit_exceeded", "message": "the balance is used up: top up to go on"},
    {"code": "not_found", "message": "there is no such thing that this key may see"},
    {
        "code": "validation_error",
        "message": "temperature: Input should be less than or equal to 2",
        "details": [
            {
                "type": "less_than_equal",
                "loc": ["body", "temperature"],
                "msg": "Input should be less than or equal to 2",
            }
        ],
    },
    {"code": "upstream_error", "message": "the upstream provider failed"},
)
_MISSING: Json = {"code": "not_implemented", "message": "images: not served by this gateway"}
_ANTHROPIC_EXAMPLES: Json = {
    "rate_limit_error": {
        "value": {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": "this key's limit is used up"},
        }
    },
    "invalid_request_error": {
        "value": {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "max_tokens: Field required"},
        }
    },
}
# Anthropic's own envelope, on its route.
_ANTHROPIC: Json = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}


def describe(app: FastAPI, routes: Iterable[BaseRoute]) -> Json:
    """The OpenAPI document of the application with these routes, and of the lane beside it."""
    document = app.openapi()
    paths: Json = document.setdefault("paths", {})
    paths[ROUTE] = chat_operation()
    components: Json = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(chat_schemas())
    schemas["ErrorEnvelope"], schemas["AnthropicError"] = _ENVELOPE, _ANTHROPIC
    components["headers"] = {
        "RequestId": {
            "description": "The id of this request: in error bodies and in the log too.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
        },
        "MeshVersion": {
            "description": "The API version that served the request.",
            "schema": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
        },
    }
    components["responses"] = {
        "Error": _error_response("ErrorEnvelope", _examples(*_ERRORS)),
        "NotImplemented": _error_response("ErrorEnvelope", _examples(_MISSING)),
        "AnthropicError": _error_response("AnthropicError", _ANTHROPIC_EXAMPLES),
    }
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`rsk_`); an admin key (`mak_`) or a session's token where "
            "the route says so.",
        }
    }
    _restore_nulls(routes, paths)
    document["security"] = [{"bearer": []}]
    for path, item in paths.items():
        for method in _METHODS:
            if method in item:
                _hoist(item[method], schemas)
                _complete(path, item[method])
                show(path, method, item[method]["responses"])
    used = sorted({tag for item in paths.values() for op in item.values() for tag in op["tags"]})
    document["tags"] = [{"name": tag, "description": TAGS.get(tag, "")} for tag in used]
    document["paths"] = dict(sorted(paths.items()))
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def _restore_nulls(routes: Iterable[BaseRoute], paths: Json) -> None:
    """Examples as the routes have them: the framework drops what is null in them."""
    for route in routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            described = paths[route.path_format][method.lower()]["responses"]
            for status, response in route.responses.items():
                for kind, media in response.get("content", {}).items():
                    if "example" in media:
                        shown = described[str(status)]["content"][kind]
                        shown["example"] = media["example"]


def _hoist(operation: Json, schemas: Json) -> None:
    """Models inside a body's own schema go to the components, where references find them."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = media.get("schema", {})
        inner = schema.pop("$defs", {})
        if inner:
            schemas.update({name: _referring(model) for name, model in inner.items()})
            media["schema"] = _referring(schema)


def _referring(value: Any) -> Any:  # Any: a part of a JSON schema
    if isinstance(value, dict):
        return {
            name: inner.replace("#/$defs/", "#/components/schemas/")
            if name == "$ref" and isinstance(inner, str)
            else _referring(inner)
            for name, inner in value.items()
        }
    return [_referring(inner) for inner in value] if isinstance(value, list) else value


def _complete(path: str, operation: Json) -> None:
    """Errors, headers and credentials of one operation."""
    operation.setdefault("tags", ["system"])
    responses: Json = operation.setdefault("responses", {})
    responses.pop("422", None)
    probe = path in _OPEN_PATHS
    ref = {"$ref": "#/components/responses/AnthropicError"} if "/messages" in path else _ERROR_REF
    if "501" in responses:
        responses["501"] = {"$ref": "#/components/responses/NotImplemented"}
    if not (probe and path != "/v1/realtime"):
        responses["default"] = ref
    for response in responses.values():
        if "$ref" not in response:
            response["headers"] = {**_HEADERS, **response.get("headers", {})}
    if probe:
        operation["security"] = []


def _examples(*errors: Json) -> Json:
    return {
        error["code"]: {"value": {"error": error, "request_id": _REQUEST_ID}} for error in errors
    }


def _error_response(schema: str, examples: Json) -> Json:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": examples}
    return {
        "description": "What went wrong.",
        "headers": _HEADERS,
        "content": {"application/json": content},
    }
