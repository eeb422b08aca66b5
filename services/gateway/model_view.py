"""Models as the public API shows them: prices as decimal strings of dollars per million tokens, 8
places.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from services.common.money import TOKENS_PER_RATE, Price, TokenKind, usd_from_nanousd
from services.gateway.ports import KeySettings, ModelEntry

PRICE_PLACES = 8

# The wire's name of each kind's rate.
_RATES: tuple[tuple[str, TokenKind], ...] = (
    ("prompt_usd_per_1m", TokenKind.PROMPT),
    ("completion_usd_per_1m", TokenKind.COMPLETION),
    ("input_usd_per_unit", TokenKind.PROMPT),
    ("output_usd_per_unit", TokenKind.COMPLETION),
    ("cache_read_input_usd_per_1m", TokenKind.CACHED_PROMPT),
    ("cache_write_input_usd_per_1m", TokenKind.CACHE_WRITE),
    ("audio_input_usd_per_1m", TokenKind.AUDIO_PROMPT),
    ("audio_output_usd_per_1m", TokenKind.AUDIO_COMPLETION),
)
_LONG_RATES: tuple[tuple[str, TokenKind], ...] = (
    ("long_context_input_usd_per_1m", TokenKind.PROMPT),
    ("long_context_output_usd_per_1m", TokenKind.COMPLETION),
)

ModelObject = dict[str, Any]  # Any: JSON


def visible_models(
    models: Iterable[ModelEntry],
    settings: KeySettings,
    now_ms: int,
    *,
    free: bool | None = None,
    model_type: str | None = None,
    provider: str | None = None,
) -> list[ModelObject]:
    """The models that this key may call now, filtered; the list that clients choose from."""
    shown = []
    for model in models:
        price = model.price_at(now_ms)
        if price is None or not model.available or not settings.allows(model.model_id):
            continue
        if free is not None and price.is_free is not free:
            continue
        if model_type is not None and model.model_type != model_type:
            continue
        if provider is not None and provider not in (model.provider_id, model.brand):
            continue
        shown.append(model_object(model, price))
    return shown


def model_object(model: ModelEntry, price: Price) -> ModelObject:
    """One model; `object`, `created` and `owned_by` are what OpenAI's SDKs look for."""
    can = model.capabilities
    return {
        "id": model.model_id,
        "object": "model",
        "created": model.created_at_ms // 1000,
        "owned_by": model.brand or model.provider_id,
        "name": model.name,
        "description": model.description or None,
        "brand": model.brand or None,
        "provider": model.provider_id,
        "model_type": model.model_type,
        "context_length": model.context_length or None,
        "context_window": model.context_length or None,
        "max_output_tokens": model.max_output_tokens or None,
        "input_modalities": list(model.input_modalities) or ["text"],
        "output_modalities": list(model.output_modalities) or ["text"],
        "is_free": price.is_free,
        "is_composite": False,
        "pricing": pricing_object(price),
        "supports_completions_api": model.model_type == "text",
        "supports_responses_api": model.model_type == "text",
        "supports_realtime": False,
        "supports_streaming": can.streaming,
        "supports_embeddings": can.embeddings,
        "supports_tools": can.tools,
        "supports_structured_output": can.structured_output,
        "supports_system_prompt": can.system_prompt,
        "supports_thinking": can.reasoning,
        "supports_batching": model.model_type in ("text", "embedding"),
        "supports_background_response": model.model_type == "text",
    }


def pricing_object(price: Price) -> dict[str, Any]:  # Any: JSON
    """The price of a model; a rate that the price does not name is null."""
    pricing: dict[str, Any] = {"pricing_unit": "per_1m_tokens"}  # Any: JSON
    for name, kind in _RATES:
        rate = price.rates.get(kind)
        pricing[name] = _usd(rate.nanousd_per_million) if rate is not None else None
    for name, kind in _LONG_RATES:
        rate = price.rates.get(kind)
        tiers = rate.tiers if rate is not None else ()
        pricing[name] = _usd(tiers[-1].nanousd_per_million) if tiers else None
    pricing["request_usd"] = _usd(price.request_fee_nanousd) if price.request_fee_nanousd else None
    if price.valid_from_ms:
        moment = datetime.fromtimestamp(price.valid_from_ms / 1000, UTC)
        pricing["effective_date"] = moment.date().isoformat()
    return pricing


SortField = Literal["brand", "name", "id", "context_length"]


def search_models(
    shown: Iterable[ModelObject],
    *,
    words: str = "",
    brands: tuple[str, ...] = (),
    input_modalities: tuple[str, ...] = (),
    output_modalities: tuple[str, ...] = (),
    sort: SortField = "name",
    descending: bool = False,
) -> list[ModelObject]:
    """Those in which every word occurs, in name, id or brand; sorted, ties by id."""
    wanted = words.lower().split()

    def matches(model: ModelObject) -> bool:
        text = f"{model['name']} {model['id']} {model['brand'] or ''}".lower()
        return (
            all(word in text for word in wanted)
            and (not brands or model["brand"] in brands)
            and set(input_modalities) <= set(model["input_modalities"])
            and set(output_modalities) <= set(model["output_modalities"])
        )

    found = sorted(filter(matches, shown), key=lambda model: str(model["id"]))
    absent: int | str = 0 if sort == "context_length" else ""
    found.sort(key=lambda model: model[sort] or absent, reverse=descending)
    return found


def _usd(nanousd: int) -> str:
    assert TOKENS_PER_RATE == 1_000_000
    return usd_from_nanousd(nanousd, places_min=PRICE_PLACES)
