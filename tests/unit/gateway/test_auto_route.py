"""The choice behind model "auto"."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidArgument
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, TokenKind
from services.gateway.auto_route import AutoRouter, Needs, is_auto, needs_of, profile_of
from services.gateway.chat_request import chat_request_from_body
from services.gateway.ports import KeySettings, ModelCapabilities, ProviderEntry, ProviderKind
from tests.fixtures.gateway import USD, MemoryCatalogue, scripted_model

ABLE = ModelCapabilities(
    streaming=True, tools=True, structured_output=True, system_prompt=True, reasoning=True
)
PLAIN = ModelCapabilities(streaming=True, system_prompt=True)
LATENCIES = {"v/cheap": 900.0, "v/middle": 300.0, "v/dear": 2_000.0}


def _price(usd: float) -> Price:
    rate = Rate(round(usd * USD))
    return Price("pv", {TokenKind.PROMPT: rate, TokenKind.COMPLETION: rate})


def _router(**changes: object) -> AutoRouter:
    catalogue = MemoryCatalogue()
    catalogue.providers["prv_script"] = ProviderEntry(
        ProviderId("prv_script"), "V", "openai_compatible", "http://x", enabled=True, timeout_ms=0
    )
    for name, usd, facts in (
        ("cheap", 0.1, {"capabilities": PLAIN, "context_length": 4_000}),
        ("middle", 1.0, {"capabilities": ABLE}),
        ("dear", 20.0, {"capabilities": ABLE, "input_modalities": ("text", "image")}),
        ("vectors", 0.01, {"model_type": "embedding"}),
    ):
        model_id = ModelId(f"v/{name}")
        catalogue.add(scripted_model("ok", _price(usd), model_id=model_id, **facts))
    kinds: tuple[ProviderKind, ...] = ("openai_compatible",)
    return AutoRouter(catalogue, kinds, LATENCIES.get)


def _choice(needs: Needs = Needs(), **how: object) -> str:  # noqa: B008 - frozen
    settings = how.pop("settings", KeySettings())
    assert isinstance(settings, KeySettings)
    return _router().select(needs, settings, 1, **how).model_id  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("profile", "chosen"),
    [("cost_first", "v/cheap"), ("latency_first", "v/middle"), ("quality_first", "v/dear")],
)
def test_each_profile_chooses_what_it_weighs_most(profile: str, chosen: str) -> None:
    assert _choice(profile=profile) == chosen


def test_the_choice_is_the_same_every_time_and_names_stand_ins() -> None:
    first = _router().select(Needs(), KeySettings(), 1)
    assert all(_router().select(Needs(), KeySettings(), 1) == first for _ in range(5))
    assert {first.model_id, *first.alternates} == {"v/cheap", "v/middle", "v/dear"}
    assert first.fallback_reason == ""


@pytest.mark.parametrize(
    ("needs", "chosen"),
    [
        (Needs(tools=True), "v/middle"),
        (Needs(structured_output=True), "v/middle"),
        (Needs(reasoning=True), "v/middle"),
        (Needs(inputs=frozenset({"image"})), "v/dear"),
        (Needs(prompt_tokens=5_000), "v/middle"),
        (Needs(operation="embeddings"), "v/vectors"),
    ],
)
def test_only_models_that_can_do_what_is_needed_are_chosen(needs: Needs, chosen: str) -> None:
    assert _choice(needs, profile="cost_first") == chosen


def test_a_key_chooses_only_among_its_models() -> None:
    settings = KeySettings(allowed_models=frozenset({"v/dear"}))
    assert _choice(settings=settings, profile="cost_first") == "v/dear"
    assert _choice(profile="cost_first", exclude=("v/cheap",)) == "v/middle"
    assert _choice(profile="cost_first", candidates=("v/dear", "v/middle")) == "v/middle"
    with pytest.raises(InvalidArgument, match="candidate_models"):
        _choice(settings=settings, candidates=("v/cheap",))
    with pytest.raises(InvalidArgument, match="model"):
        _choice(exclude=("v/cheap", "v/middle", "v/dear"))


def test_where_no_model_is_able_the_default_answers_and_the_reason_is_told() -> None:
    hears = Needs(inputs=frozenset({"audio"}))
    chosen = _router().select(hears, KeySettings(default_model="v/dear"), 1)
    assert (chosen.model_id, chosen.fallback_reason) == ("v/dear", "no_capable_model")
    long = _router().select(Needs(prompt_tokens=10**6), KeySettings(), 1)
    assert long.fallback_reason == "context_too_long"


def test_what_a_request_needs_is_read_from_its_body() -> None:
    body = {
        "model": " Auto ",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_object"},
        "reasoning": {"effort": "high"},
        "max_tokens": 7,
    }
    request = chat_request_from_body(body)
    assert is_auto(request.models[0])
    needs = needs_of(request, 50)
    assert needs == Needs("chat", 50, 7, frozenset({"image"}), frozenset(), *[True] * 4)


def test_an_unknown_profile_means_the_balanced_one() -> None:
    assert profile_of("", "cost_first") == "cost_first"
    assert profile_of("fastest", "cost_first") == "balanced"
