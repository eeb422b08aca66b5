"""The description of the API: complete, current, and true of what the worker answers."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from scripts import api_docs
from services.gateway.chat_request import OWN_FIELDS, UPSTREAM_FIELDS
from services.gateway.entrypoints.chat_docs import ChatBody
from tests.fixtures.gateway import GatewayHarness
from tests.fixtures.schemas import CHECKS, DOCUMENT
from tests.fixtures.threads import gateway_of_a_thread

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "4"))
OPERATIONS = sorted(
    (path, method)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if operation["tags"] != ["not served"]
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHarness]:
    with gateway_of_a_thread(tmp_path_factory.mktemp("gateway")) as harness:
        yield harness


@pytest.fixture(scope="module")
def schema() -> Any:  # Any: schemathesis' own class
    return schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT))


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_answer_is_a_5xx_or_outside_its_schema(
    served: GatewayHarness,
    schema: Any,  # Any: see above
    path: str,
    method: str,
) -> None:
    operation = schema[path][method]
    seen: set[int] = set()

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        # Failures are told as they were found: making them small takes minutes.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: Any) -> None:  # Any: a schemathesis case
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "vendor/ok"
        response = case.call(base_url=served.url, headers=served.auth, timeout=30)
        # 501 is a promise kept: no provider here offers moderation, for instance.
        assert response.status_code < 500 or response.status_code == 501, response.text
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    holds()
    assert seen


def test_what_is_not_served_says_so_whatever_is_sent(served: GatewayHarness) -> None:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if operation["tags"] == ["not served"]:
                url = served.url + path.replace("{", "").replace("}", "")
                answer = requests.request(method, url, headers=served.auth, json={}, timeout=30)
                assert (answer.status_code, answer.json()["error"]["code"]) == (
                    501,
                    "not_implemented",
                )
                assert answer.json()["request_id"] == answer.headers["x-request-id"]
    other = requests.delete(served.url + "/v1/files/x/y", headers=served.auth, timeout=30)
    assert other.status_code == 501
    assert requests.get(served.url + "/v1/files", timeout=30).status_code == 401
    assert requests.get(served.url + "/v1/realtime", timeout=30).status_code == 501


def test_every_field_of_a_chat_request_is_described() -> None:
    described = set(ChatBody.model_fields)
    assert described == {"messages", *OWN_FIELDS, *UPSTREAM_FIELDS}


def test_every_route_has_a_page_and_every_operation_an_id_of_its_own() -> None:
    pages = "".join(text for path, text in api_docs.files().items() if path.suffix == ".md")
    ids = []
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            assert f"`{method.upper()} {path}`" in pages
            ids.append(operation["operationId"])
    assert len(set(ids)) == len(ids)


def test_references_lead_somewhere() -> None:
    def check(value: Any) -> None:  # Any: a part of the document
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                found: Any = DOCUMENT  # Any: see above
                for part in reference.removeprefix("#/").split("/"):
                    found = found[part]
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    check(DOCUMENT)


def test_the_committed_description_is_that_of_the_routes() -> None:
    for path, text in api_docs.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python -m scripts.api_docs"
