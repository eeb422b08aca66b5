"""Embeddings and moderations through both SDKs: one piece, metered like a conversation."""

from __future__ import annotations

import openai
import pytest
from meshapi import AsyncMeshAPI, MeshAPIError
from meshapi._types import EmbeddingsParams, ModerationParams

from services.common.ids import ModelId
from services.common.money import TokenKind
from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.ports import KeySettings, ModelCapabilities
from tests.fixtures.gateway import FREE, GatewayHarness, scripted_model, short_of_money, tokens_of


@pytest.fixture
def gateway(gateway: GatewayHarness) -> GatewayHarness:
    """With models that embed, and one that judges."""
    able = ModelCapabilities(embeddings=True)
    for script in ("embed", "embed-uncounted", "embed-empty", "500"):
        name = ModelId(f"vendor/{script}")
        gateway.catalogue.add(
            scripted_model(script, model_id=name, model_type="embedding", capabilities=able)
        )
    return gateway


def _judge(gateway: GatewayHarness) -> None:
    judge = scripted_model(
        "moderate",
        FREE,
        model_id=ModelId("vendor/omni-moderation-latest"),
        model_type="moderation",
        upstream_model="omni-moderation-latest",
    )
    gateway.catalogue.add(judge)
    gateway.upstream.aliases["omni-moderation-latest"] = "moderate"


def _openai(gateway: GatewayHarness, key: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0
    )


def _mesh(gateway: GatewayHarness, key: str = "") -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=key or gateway.key, max_retries=0)


async def test_both_sdks_get_vectors_in_the_order_of_their_inputs(gateway: GatewayHarness) -> None:
    async with _openai(gateway) as client:
        # This SDK asks for base 64 and turns it into numbers.
        answer = await client.embeddings.create(model="vendor/embed", input=["Paris", "Rome"])
    assert gateway.upstream.requests[-1]["encoding_format"] == "base64"
    assert [item.embedding for item in answer.data] == [[0.5, -1.0], [1.5, -1.0]]
    assert (answer.model, answer.usage.total_tokens) == ("vendor/embed", 6)
    mesh = await _mesh(gateway).embeddings.create(
        EmbeddingsParams(model="vendor/embed", input=["Paris", "Rome"], dimensions=2)
    )
    assert [item.embedding for item in mesh.data] == [[0.5, -1.0], [1.5, -1.0]]
    assert gateway.upstream.requests[-1] == {
        "model": "script-embed",
        "input": ["Paris", "Rome"],
        "dimensions": 2,
    }
    event = await gateway.event(2)
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert (event.route, event.cost_nanousd) == ("/v1/embeddings", 12_000)
    assert tokens_of(event) == {TokenKind.PROMPT: 6}
    assert event.usage_basis == usage_pb2.USAGE_BASIS_PROVIDER


@pytest.mark.parametrize(("given", "tokens"), [("Paris", 1), ([1, 2, 3], 3), ([[1, 2], [3]], 3)])
async def test_tokens_that_the_provider_does_not_count_are_counted_here(
    gateway: GatewayHarness, given: str | list[int], tokens: int
) -> None:
    answer = await _mesh(gateway).embeddings.create(
        EmbeddingsParams(model="vendor/embed-uncounted", input=given)
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == tokens
    event = await gateway.event()
    assert tokens_of(event) == {TokenKind.PROMPT: tokens}
    assert event.usage_basis == usage_pb2.USAGE_BASIS_TOKENIZER
    assert event.cost_nanousd == tokens * 2_000


async def test_a_keys_default_model_embeds_where_none_is_named(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings(default_model="vendor/embed"))
    answer = await _mesh(gateway, key).embeddings.create(EmbeddingsParams(input="Paris"))
    assert answer.model == "vendor/embed"
    with pytest.raises(MeshAPIError) as nameless:
        await _mesh(gateway).embeddings.create(EmbeddingsParams(input="Paris"))
    assert (nameless.value.status, nameless.value.error_code) == (422, "validation_error")


async def test_what_cannot_be_embedded_is_refused_and_costs_nothing(
    gateway: GatewayHarness,
) -> None:
    mesh = _mesh(gateway).embeddings
    unable = (400, "model_capability_not_supported", "guard_model_access")
    for model, given, (status, code, stage) in (
        ("vendor/ok", "x", unable),
        ("vendor/embed", "", (422, "validation_error", "template")),
        ("vendor/embed-empty", "x", (502, "upstream_error", "upstream_stream")),
        ("vendor/500", "x", (502, "upstream_error", "upstream_submit")),
    ):
        before = len(gateway.events())
        with pytest.raises(MeshAPIError) as refused:
            await mesh.create(EmbeddingsParams(model=model, input=given))
        assert (refused.value.status, refused.value.error_code) == (status, code)
        event = await gateway.event(before + 1)
        assert (event.failure_stage, event.cost_nanousd) == (stage, 0)
    fresh = _mesh(gateway, gateway.keys.issue()).embeddings
    with short_of_money(gateway, 0), pytest.raises(MeshAPIError) as poor:
        await fresh.create(EmbeddingsParams(model="vendor/embed", input="x"))
    assert poor.value.status == 402


async def test_verdicts_pass_through_one_for_each_input(gateway: GatewayHarness) -> None:
    _judge(gateway)
    async with _openai(gateway) as client:
        verdict = await client.moderations.create(input=["I like Paris", "kill it"])
    assert [result.flagged for result in verdict.results] == [False, True]
    mesh = await _mesh(gateway).moderations.create(ModerationParams(input="kill it"))
    assert mesh.results[0].categories == {"violence": True}
    assert mesh.model == "vendor/omni-moderation-latest"
    event = await gateway.event(2)
    assert (event.route, event.cost_nanousd) == ("/v1/moderations", 0)
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS


async def test_moderation_is_not_implemented_where_no_provider_offers_it(
    gateway: GatewayHarness,
) -> None:
    with pytest.raises(MeshAPIError) as missing:
        await _mesh(gateway).moderations.create(ModerationParams(input="x"))
    assert (missing.value.status, missing.value.error_code) == (501, "not_implemented")
    assert (await gateway.event()).failure_stage == "guard_model_access"
