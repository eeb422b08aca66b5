"""The model that runs on this machine, as a seed: once for nothing, once for a price."""

from __future__ import annotations

from services.catalog.domain.settings import (
    ModelCapabilities,
    ModelSettings,
    ProviderKind,
    ProviderSettings,
)
from services.catalog.seeds import SeedModel, SeedProvider, Seeds, identified
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, TokenKind

PROVIDER_ID = ProviderId("local")
UPSTREAM_MODEL = "smollm2-135m"
CONTEXT_LENGTH = 2048
SOURCE = "local model"
PROMPT_NANOUSD_PER_MILLION = 100_000_000
COMPLETION_NANOUSD_PER_MILLION = 400_000_000


def local_seeds(base_url: str) -> Seeds:
    """The local provider and its two models; `base_url` includes the version of the API."""
    provider = ProviderSettings(
        name="Local model",
        kind=ProviderKind.OPENAI_COMPATIBLE,
        base_url=base_url,
        credential_required=False,
    )
    paid = {
        TokenKind.PROMPT: Rate(PROMPT_NANOUSD_PER_MILLION),
        TokenKind.COMPLETION: Rate(COMPLETION_NANOUSD_PER_MILLION),
    }
    free = {TokenKind.PROMPT: Rate(0), TokenKind.COMPLETION: Rate(0)}
    return Seeds(
        (SeedProvider(PROVIDER_ID, provider),),
        (
            _model(f"local/{UPSTREAM_MODEL}", "SmolLM2 135M", paid),
            _model(f"local/{UPSTREAM_MODEL}:free", "SmolLM2 135M (free)", free),
        ),
    )


def _model(name: str, title: str, rates: dict[TokenKind, Rate]) -> SeedModel:
    model_id = ModelId(name)
    settings = ModelSettings(
        name=title,
        description="SmolLM2-135M-Instruct, served on this machine.",
        brand="local",
        provider_id=PROVIDER_ID,
        upstream_model=UPSTREAM_MODEL,
        context_length=CONTEXT_LENGTH,
        capabilities=ModelCapabilities(streaming=True, system_prompt=True),
    )
    return SeedModel(
        model_id, settings, (identified(Price("", rates, model_id=model_id, source=SOURCE)),)
    )
