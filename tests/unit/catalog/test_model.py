"""Given what happened to a model, when it is commanded, then these events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from services.catalog.domain.model import (
    RATE_NANOUSD_MAX,
    ImportModel,
    Model,
    ModelChanged,
    ModelCommand,
    ModelEvent,
    ModelRegistered,
    PricePublished,
    PublishPrice,
    PutModel,
    decide,
    evolve,
)
from services.catalog.domain.provider import Provider, Slot
from services.common.errors import Conflict, InvalidArgument, ModelNotFound
from services.common.ids import ModelId
from services.common.money import Price, Rate, RateTier, TokenKind
from tests.unit.catalog.builders import (
    GPT,
    NOW_MS,
    OPENAI,
    model_settings,
    price,
    provider_settings,
)

REGISTERED = ModelRegistered(GPT, model_settings(), NOW_MS)
FREE = ModelId("openai/gpt-4o:free")


def after(events: Sequence[ModelEvent]) -> Model | None:
    state: Model | None = None
    for event in events:
        state = evolve(state, event)
    return state


def happens(given: Sequence[ModelEvent], when: ModelCommand) -> list[ModelEvent]:
    return decide(after(given), when)


def test_a_new_model_is_registered_without_a_price() -> None:
    assert happens([], PutModel(GPT, model_settings(), NOW_MS)) == [REGISTERED]


def test_other_settings_are_a_change_and_the_same_ones_are_nothing() -> None:
    other = model_settings(enabled=False)
    assert happens([REGISTERED], PutModel(GPT, other, NOW_MS + 1)) == [
        ModelChanged(GPT, other, NOW_MS + 1)
    ]
    assert happens([REGISTERED], PutModel(GPT, model_settings(), NOW_MS + 1)) == []


def test_a_price_without_a_moment_is_valid_from_now() -> None:
    assert happens([REGISTERED], PublishPrice(price(), NOW_MS)) == [
        PricePublished(replace(price(), valid_from_ms=NOW_MS), NOW_MS)
    ]


def test_a_price_may_be_announced_for_later() -> None:
    coming = price(valid_from_ms=NOW_MS + 1)
    assert happens([REGISTERED], PublishPrice(coming, NOW_MS)) == [PricePublished(coming, NOW_MS)]


def test_a_price_never_begins_in_the_past() -> None:
    with pytest.raises(InvalidArgument, match="valid_from_ms"):
        happens([REGISTERED], PublishPrice(price(valid_from_ms=NOW_MS - 1), NOW_MS))


@pytest.mark.parametrize("moment_ms", [NOW_MS + 5, NOW_MS + 10])
def test_prices_ascend(moment_ms: int) -> None:
    later = PricePublished(price(valid_from_ms=NOW_MS + 10), NOW_MS)
    with pytest.raises(InvalidArgument, match="valid_from_ms"):
        happens([REGISTERED, later], PublishPrice(price(valid_from_ms=moment_ms), NOW_MS))


def test_a_model_that_is_not_there_has_no_price() -> None:
    with pytest.raises(ModelNotFound):
        happens([], PublishPrice(price(), NOW_MS))


def test_a_history_may_lie_in_the_past_where_nothing_was_billed_by_it() -> None:
    history = (price(valid_from_ms=0), price(1, valid_from_ms=5), price(2, valid_from_ms=9))
    events = [PricePublished(version, NOW_MS) for version in history]
    command = ImportModel(GPT, model_settings(), history, NOW_MS)
    assert happens([], command) == [REGISTERED, *events]
    assert happens([REGISTERED], command) == events
    with pytest.raises(Conflict):
        happens([REGISTERED, events[0]], command)


def test_a_history_that_does_not_ascend_is_refused() -> None:
    history = (price(valid_from_ms=9), price(1, valid_from_ms=5))
    with pytest.raises(InvalidArgument, match="valid_from_ms"):
        happens([], ImportModel(GPT, model_settings(), history, NOW_MS))


@pytest.mark.parametrize(
    ("rates", "fee"),
    [
        ({}, 0),
        ({}, 5),
        ({TokenKind.PROMPT: Rate(-1)}, 0),
        ({TokenKind.PROMPT: Rate(RATE_NANOUSD_MAX + 1)}, 0),
        ({TokenKind.PROMPT: Rate(1, (RateTier(0, 2),))}, 0),
        ({TokenKind.PROMPT: Rate(1, (RateTier(5, 2), RateTier(5, 3)))}, 0),
        ({TokenKind.PROMPT: Rate(1, (RateTier(5, -2),))}, 0),
        ({TokenKind.PROMPT: Rate(1, tuple(RateTier(n, n) for n in range(1, 19)))}, 0),
        ({TokenKind.PROMPT: Rate(1)}, -1),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(rates: dict[TokenKind, Rate], fee: int) -> None:
    wrong = Price("pv_1", rates, request_fee_nanousd=fee, model_id=GPT)
    with pytest.raises(InvalidArgument):
        happens([REGISTERED], PublishPrice(wrong, NOW_MS))


def test_a_model_that_is_called_free_costs_nothing() -> None:
    registered = ModelRegistered(FREE, model_settings(), NOW_MS)
    nothing = price(0, 0, model_id=FREE, valid_from_ms=NOW_MS)
    assert happens([registered], PublishPrice(nothing, NOW_MS)) == [PricePublished(nothing, NOW_MS)]
    with pytest.raises(InvalidArgument, match="must cost nothing"):
        happens([registered], PublishPrice(price(1, 0, model_id=FREE), NOW_MS))


@pytest.mark.parametrize(
    "model_id",
    ["openai/gpt-4o", "openai/GPT-4o:free", "groq/openai/gpt-oss-120b", "x/y.z_1-a@2", "a/~b/c"],
)
def test_a_model_id_is_a_vendor_and_a_name(model_id: str) -> None:
    (event,) = happens([], PutModel(ModelId(model_id), model_settings(), NOW_MS))
    assert isinstance(event, ModelRegistered)
    assert event.model_id == model_id


@pytest.mark.parametrize(
    "model_id",
    ["", "gpt-4o", "/gpt", "openai/", "a//b", "a/b c", "a/b\n", "a/b:free:free", "a/" + "b" * 200],
)
def test_another_shape_of_model_id_is_refused(model_id: str) -> None:
    with pytest.raises(InvalidArgument, match="model_id"):
        happens([], PutModel(ModelId(model_id), model_settings(), NOW_MS))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("upstream_model", ""),
        ("context_length", -1),
        ("max_output_tokens", 10**10),
        ("input_modalities", ()),
        ("input_modalities", ("text", "text")),
        ("output_modalities", ("smell",)),
        ("model_type", "chat"),
        ("tokenizer", "p50k_base"),
        ("description", "d" * 4001),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"settings.{field}"):
        happens([], PutModel(GPT, model_settings(**{field: value}), NOW_MS))


@for_all(st.sets(st.integers(1, 1000), min_size=1), st.integers(0, 1100))
def test_the_price_in_force_is_the_newest_that_has_begun(starts: set[int], now_ms: int) -> None:
    history = tuple(price(start, valid_from_ms=start) for start in sorted(starts))
    model = Model(GPT, model_settings(), 0, history)
    begun = [start for start in starts if start <= now_ms]
    in_force = model.price_at(now_ms)
    assert (in_force.valid_from_ms if in_force else None) == (max(begun) if begun else None)
    coming = sorted(start for start in starts if start > now_ms)
    expected = ([max(begun)] if begun else []) + coming
    assert [version.valid_from_ms for version in model.prices_from(now_ms)] == expected


def test_a_model_is_available_when_enabled_priced_and_served() -> None:
    usable = Provider(OPENAI, provider_settings(), 0, slots=(Slot("default", 1),))
    unusable = Provider(OPENAI, provider_settings(), 0)
    priced = Model(GPT, model_settings(), 0, (price(valid_from_ms=NOW_MS),))
    disabled = replace(priced, settings=model_settings(enabled=False))
    unpriced = replace(priced, prices=())
    assert priced.available(usable, NOW_MS)
    assert not priced.available(usable, NOW_MS - 1)
    assert not priced.available(unusable, NOW_MS)
    assert not priced.available(None, NOW_MS)
    assert not disabled.available(usable, NOW_MS)
    assert not unpriced.available(usable, NOW_MS)
