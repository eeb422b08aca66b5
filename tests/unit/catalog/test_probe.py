"""How a provider is tried out: what is asked, and what people are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.catalog import handlers
from services.catalog.adapters.probe_http import MemoryProbe
from services.catalog.domain.probe import ProbeAnswer, probe_request, verdict
from services.catalog.domain.provider import PutProvider, SetCredential
from services.catalog.domain.settings import ProviderKind
from services.common.errors import InvalidArgument, NotFound
from tests.unit.catalog.builders import (
    CREDENTIAL,
    NOW_MS,
    OPENAI,
    memory_context,
    provider_settings,
)


@pytest.mark.parametrize(
    ("kind", "base_url", "version", "url", "header"),
    [
        ("openai_compatible", "https://a.test/v1/", "", "https://a.test/v1/models",
         "authorization"),
        ("anthropic", "https://a.test", "", "https://a.test/v1/models", "x-api-key"),
        ("anthropic", "https://a.test/v1", "", "https://a.test/v1/models", "x-api-key"),
        ("gemini", "https://a.test/v1beta", "", "https://a.test/v1beta/models", "x-goog-api-key"),
        ("azure_openai", "https://a.test", "", "https://a.test/openai/v1/models", "api-key"),
        (
            "azure_openai", "https://a.test", "2024-10-21",
            "https://a.test/openai/models?api-version=2024-10-21", "api-key",
        ),
    ],
)  # fmt: skip
def test_each_kind_is_asked_for_its_models_with_its_own_header(
    kind: str, base_url: str, version: str, *, url: str, header: str
) -> None:
    settings = provider_settings(kind=ProviderKind(kind), base_url=base_url, api_version=version)
    asked = probe_request(settings, "secret")
    assert asked.url == url
    assert asked.headers[header].endswith("secret")
    assert "secret" not in repr(asked)
    assert header not in probe_request(settings, "").headers


def test_bedrock_has_no_request_that_costs_nothing() -> None:
    with pytest.raises(InvalidArgument):
        probe_request(provider_settings(kind=ProviderKind.BEDROCK), "secret")


@pytest.mark.parametrize(
    ("status", "ok", "said"),
    [
        (200, True, "takes the credential"),
        (401, False, "turned the credential down (401)"),
        (403, False, "turned the credential down (403)"),
        (404, False, "check the base URL"),
        (429, False, "quota"),
        (302, False, "refused the request (302)"),
        (503, False, "trouble itself (503)"),
        (0, False, "it cannot be reached"),
    ],
)
def test_an_answer_is_told_as_a_sentence(status: int, ok: bool, said: str) -> None:
    found = verdict(ProbeAnswer(status, 3, "it cannot be reached"))
    assert (found.ok, found.http_status, found.latency_ms) == (ok, status, 3)
    assert said in found.message


async def test_a_provider_is_tried_with_its_stored_credential() -> None:
    context, _ = memory_context()
    probe = MemoryProbe({"https://api.openai.com/v1/models": 200})
    context = replace(context, probe=probe)
    with pytest.raises(NotFound):
        await handlers.try_provider(context, OPENAI)
    await handlers.put_provider(context, PutProvider(OPENAI, provider_settings(), NOW_MS))
    assert "no credential" in (await handlers.try_provider(context, OPENAI)).message
    assert probe.asked == []
    await handlers.set_credential(context, SetCredential(OPENAI, NOW_MS), CREDENTIAL)
    assert (await handlers.try_provider(context, OPENAI)).ok
    assert probe.asked[0].headers == {"authorization": f"Bearer {CREDENTIAL}"}
