"""Model "auto" and POST /v1/router/select, through the real SDK."""

from __future__ import annotations

import aiohttp
import pytest
from meshapi import AsyncMeshAPI, ChatCompletionParams, ChatMessage, MeshAPIError
from meshapi._types import EmbeddingsParams, ResponsesParams, RouterSelectParams

from services.common.ids import ModelId
from services.common.money import Price, Rate, TokenKind
from services.gateway.ports import KeySettings, ModelCapabilities
from tests.fixtures.gateway import USD, GatewayHarness, scripted_model

MESSAGES = [ChatMessage(role="user", content="What is the capital of France?")]
CHEAP = Price("pv_cheap", {TokenKind.PROMPT: Rate(USD // 10), TokenKind.COMPLETION: Rate(USD)})
DEAR = Price("pv_dear", {TokenKind.PROMPT: Rate(50 * USD), TokenKind.COMPLETION: Rate(90 * USD)})


@pytest.fixture
def gateway(gateway: GatewayHarness) -> GatewayHarness:
    """With a cheap model, a dear one that sees, and one that embeds; no other."""
    gateway.catalogue.by_id.clear()
    plain = ModelCapabilities(streaming=True, system_prompt=True)
    add = gateway.catalogue.add
    add(scripted_model("ok", CHEAP, model_id=ModelId("v/cheap"), capabilities=plain))
    sees = ("text", "image")
    add(scripted_model("ok", DEAR, model_id=ModelId("v/dear"), input_modalities=sees))
    add(scripted_model("embed", model_id=ModelId("v/vectors"), model_type="embedding"))
    return gateway


def _mesh(gateway: GatewayHarness, key: str = "") -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=key or gateway.key, max_retries=0)


async def _post(
    gateway: GatewayHarness, path: str, body: object, **headers: str
) -> aiohttp.ClientResponse:
    async with aiohttp.ClientSession() as session:
        async with session.post(
            gateway.url + path, json=body, headers={**gateway.auth, **headers}
        ) as response:
            await response.read()
            return response


async def test_an_auto_answer_says_which_model_it_is_of(gateway: GatewayHarness) -> None:
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "Hi"}],
        "weight_profile": "cost_first",
    }
    answer = await (await _post(gateway, "/v1/chat/completions", body)).json()
    assert answer["x_auto_routed"] is True
    assert answer["x_resolved_model_id"] == answer["model"] == "v/cheap"
    assert "x_auto_routed_fallback" not in answer
    event = await gateway.event()
    assert (event.requested_model, event.model_id) == ("auto", "v/cheap")
    assert event.price.price_version_id == "pv_cheap"


async def test_an_auto_stream_says_it_in_its_head(gateway: GatewayHarness) -> None:
    body = {"model": "AUTO", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    profile = {"X-Mesh-Weight-Profile": "quality_first"}
    response = await _post(gateway, "/v1/chat/completions", body, **profile)
    assert response.headers["X-Auto-Routed"] == "true"
    assert response.headers["X-Resolved-Model-Id"] == "v/dear"
    assert "X-Auto-Routed-Fallback" not in response.headers
    text = await response.text()
    assert '"model":"v/dear"' in text
    assert "x_auto" not in text


async def test_where_nothing_can_do_it_the_fallback_is_told(gateway: GatewayHarness) -> None:
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "Hi"}],
        "reasoning_effort": "high",
    }
    response = await _post(gateway, "/v1/chat/completions", body)
    answer = await response.json()
    assert answer["x_auto_routed_fallback"] is True
    assert answer["x_auto_routed_fallback_reason"] == "no_capable_model"
    assert response.headers["X-Auto-Routed-Fallback-Reason"] == "no_capable_model"


async def test_auto_serves_responses_and_embeddings_too(gateway: GatewayHarness) -> None:
    mesh = _mesh(gateway)
    response = await mesh.responses.create(ResponsesParams(model="auto", input="Hi"))
    assert response.model in ("v/cheap", "v/dear")
    vectors = await mesh.embeddings.create(EmbeddingsParams(model="auto", input="Hi"))
    assert vectors.model == "v/vectors"
    assert (await gateway.event(2)).model_id == "v/vectors"


async def test_a_selection_names_a_model_and_sends_nothing(gateway: GatewayHarness) -> None:
    select = _mesh(gateway).router.select
    chosen = await select(RouterSelectParams(messages=MESSAGES))
    assert chosen.model in ("v/cheap", "v/dear")
    assert chosen.auto_router.fallback_used is False
    other = await select(RouterSelectParams(messages=MESSAGES, exclude_models=[chosen.model]))
    assert {chosen.model, other.model} == {"v/cheap", "v/dear"}
    vectors = await select(RouterSelectParams(messages=MESSAGES, api_type="embeddings"))
    assert vectors.model == "v/vectors"
    assert gateway.upstream.requests == []
    assert gateway.events() == []


async def test_a_selection_stays_within_the_key_and_the_candidates(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(allowed_models=frozenset({"v/dear"})))
    chosen = await _mesh(gateway, key).router.select(RouterSelectParams(messages=MESSAGES))
    assert chosen.model == "v/dear"
    with pytest.raises(MeshAPIError) as nothing:
        await _mesh(gateway, key).chat.completions.create(
            ChatCompletionParams(model="v/cheap", messages=MESSAGES)
        )
    assert nothing.value.error_code == "model_not_found"
    body = {"messages": [{"role": "user", "content": "Hi"}], "candidate_models": ["v/none"]}
    response = await _post(gateway, "/v1/router/select", body)
    assert response.status == 422
    error = (await response.json())["error"]
    assert error["code"] == "validation_error"
    assert "candidate_models" in error["message"]
    assert (await _post(gateway, "/v1/router/select", {"messages": []})).status == 422
