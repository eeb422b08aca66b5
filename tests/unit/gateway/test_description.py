"""The description of the API, walked operation by operation: no answer is left undescribed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from services.gateway.entrypoints.app import routed_app
from services.gateway.entrypoints.examples import EXAMPLES

Json = dict[str, Any]  # Any: an OpenAPI document and its parts
DOCUMENT: Json = routed_app().openapi()
OPERATIONS = sorted((path, method) for path, item in DOCUMENT["paths"].items() for method in item)
PROBES = ("/healthz", "/readyz")


def resolved(part: Json) -> Json:
    """The part of the document that is meant."""
    while "$ref" in part:
        found: Any = DOCUMENT  # Any: see above
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def answers(path: str, method: str) -> Iterator[tuple[str, Json]]:
    """Status and description of every answer of an operation."""
    for status, response in DOCUMENT["paths"][path][method]["responses"].items():
        yield status, resolved(response)


def examples_of(media: Json) -> list[Any]:  # Any: JSON
    found = [one["value"] for one in media.get("examples", {}).values()]
    return [*found, media["example"]] if "example" in media else found


def validate(value: Any, schema: Json) -> None:  # Any: JSON
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(whole).validate(value)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_has_a_schema_and_an_example_that_fits_it(path: str, method: str) -> None:
    for status, response in answers(path, method):
        contents = response.get("content", {})
        if status == "204":
            assert not contents
            continue
        assert contents, f"{status} has no body"
        for kind, media in contents.items():
            assert media.get("schema"), f"{status} {kind} has no schema"
        # One kind may stand for all: a stream says the same as the whole answer.
        shown = [(media, one) for media in contents.values() for one in examples_of(media)]
        assert shown, f"{status} has no example"
        for media, one in shown:
            validate(one, media["schema"])


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_says_how_it_ends_well_and_how_otherwise(path: str, method: str) -> None:
    statuses = {status for status, _ in answers(path, method)}
    served = DOCUMENT["paths"][path][method]["tags"] != ["not served"]
    good = {status for status in statuses if status.startswith("2")}
    assert len(good) == served
    assert path in PROBES or "default" in statuses
    assert "422" not in statuses, "the framework's own envelope is never sent"


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_body_that_is_read_is_described_with_an_example(path: str, method: str) -> None:
    body = DOCUMENT["paths"][path][method].get("requestBody")
    if body is None:
        return
    (media,) = body["content"].values()
    schema = resolved(media["schema"])
    found = [*examples_of(media), *([schema["example"]] if "example" in schema else [])]
    assert found or not schema.get("required"), "no example of what is needed"
    for one in found:
        validate(one, media["schema"])


def test_no_example_is_of_an_answer_that_there_is_not() -> None:
    for method, path, status in EXAMPLES:
        assert status in DOCUMENT["paths"][path][method]["responses"], (method, path)


def test_an_answer_without_a_schema_or_an_example_is_noticed() -> None:
    operation = DOCUMENT["paths"]["/v1/balance"]["get"]
    media = operation["responses"]["200"]["content"]["application/json"]
    for name in ("schema", "example"):
        kept = media.pop(name)
        try:
            with pytest.raises(AssertionError):
                test_every_answer_has_a_schema_and_an_example_that_fits_it("/v1/balance", "get")
        finally:
            media[name] = kept
