"""Providers, models and prices for the tests of the catalog."""

from __future__ import annotations

from services.catalog.adapters.cipher_aesgcm import AesGcmCipher
from services.catalog.adapters.probe_http import MemoryProbe
from services.catalog.adapters.store_memory import MemoryCatalog
from services.catalog.domain.settings import ModelSettings, ProviderKind, ProviderSettings
from services.catalog.handlers import Context
from services.common.clock import Clock, FakeClock
from services.common.ids import ModelId, ProviderId
from services.common.money import Price, Rate, TokenKind

NOW_MS = 1_700_000_000_000
OPENAI = ProviderId("openai")
GPT = ModelId("openai/gpt-4o")
KEY = bytes(range(32))
CREDENTIAL = "sk-test-0123456789abcdefghij"


def provider_settings(**changes: object) -> ProviderSettings:
    given: dict[str, object] = {
        "name": "OpenAI",
        "kind": ProviderKind.OPENAI_COMPATIBLE,
        "base_url": "https://api.openai.com/v1",
    }
    return ProviderSettings(**(given | changes))  # type: ignore[arg-type]  # changes name fields


def model_settings(**changes: object) -> ModelSettings:
    given: dict[str, object] = {
        "name": "GPT-4o",
        "provider_id": OPENAI,
        "upstream_model": "gpt-4o",
        "context_length": 128_000,
    }
    return ModelSettings(**(given | changes))  # type: ignore[arg-type]  # changes name fields


def price(
    prompt: int = 2_500_000_000,
    completion: int = 10_000_000_000,
    *,
    valid_from_ms: int = 0,
    model_id: ModelId = GPT,
    source: str = "a test",
) -> Price:
    return Price(
        price_version_id=f"pv_{valid_from_ms}_{prompt}",
        rates={TokenKind.PROMPT: Rate(prompt), TokenKind.COMPLETION: Rate(completion)},
        model_id=model_id,
        valid_from_ms=valid_from_ms,
        source=source,
    )


def memory_context(clock: Clock | None = None) -> tuple[Context, MemoryCatalog]:
    store = MemoryCatalog()
    return Context(store, AesGcmCipher(KEY), clock or FakeClock(NOW_MS), MemoryProbe()), store
