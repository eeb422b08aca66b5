"""What the description of the API says of models and their prices."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from services.gateway.entrypoints.dialect_docs import Open

_DECIMAL = r"^[0-9]+\.[0-9]+$"


class Pricing(Open):
    """Prices as decimal strings of US dollars; null where there is none of that kind."""

    pricing_unit: str
    prompt_usd_per_1m: str | None = Field(None, pattern=_DECIMAL)
    completion_usd_per_1m: str | None = Field(None, pattern=_DECIMAL)
    request_usd: str | None = Field(None, pattern=_DECIMAL)


class ModelInfo(Open):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    is_free: bool
    is_composite: bool
    model_type: str
    context_length: int | None
    input_modalities: list[str]
    output_modalities: list[str]
    pricing: Pricing


class ModelList(Open):
    """The list as OpenAI's SDKs want it; they are known by their headers."""

    object: Literal["list"]
    data: list[ModelInfo]


class ModelPage(Open):
    """A page of what was found."""

    items: list[ModelInfo]
    total: int
    limit: int
    offset: int
    brands: list[str]


class ModelRoute(Open):
    """One way in which a model is served, and what it takes."""

    provider: str
    available: bool
    input_modalities: list[str]
    output_modalities: list[str]
    context_length: int | None
    supports_streaming: bool
    supports_tools: bool
    supports_structured_output: bool
    pricing: Pricing


def example(**more: Any) -> dict[str, Any]:  # Any: JSON
    """A model as an example."""
    return {
        "id": "openai/gpt-4o-mini",
        "object": "model",
        "created": 1760000000,
        "owned_by": "openai",
        "name": "GPT-4o mini",
        "is_free": False,
        "is_composite": False,
        "model_type": "text",
        "context_length": 128000,
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
        "pricing": {
            "pricing_unit": "per_1m_tokens",
            "prompt_usd_per_1m": "0.15000000",
            "completion_usd_per_1m": "0.60000000",
            "request_usd": None,
        },
        **more,
    }


def shown(value: Any) -> dict[int | str, dict[str, Any]]:  # Any: JSON
    """`responses` of a decorator with this example."""
    return {200: {"content": {"application/json": {"example": value}}}}
