"""Models, the places that serve them, and providers, as the catalogue's topics tell of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from services.common.ids import ModelId, ProviderId
from services.common.money import Price

ProviderKind = Literal["openai_compatible", "anthropic", "gemini", "bedrock", "azure_openai"]


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What may be asked of a model."""

    streaming: bool = False
    tools: bool = False
    structured_output: bool = False
    system_prompt: bool = False
    reasoning: bool = False
    embeddings: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """Another place where a model is served. Lower priorities are tried first, the model's own
    place has 0; among those of one priority the weights say who gets how much.
    """

    provider_id: ProviderId
    upstream_model: str
    priority: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalogue as the operator set it, with its prices in force and to come."""

    model_id: ModelId
    name: str
    provider_id: ProviderId
    upstream_model: str
    # In tokens; 0 where not known.
    context_length: int
    max_output_tokens: int
    # cl100k_base, o200k_base, or empty where none is exact.
    tokenizer: str
    # Ascending by `valid_from_ms`.
    prices: tuple[Price, ...]
    # Enabled, priced, and its provider enabled and with a credential where one is required.
    available: bool
    capabilities: ModelCapabilities = ModelCapabilities()
    description: str = ""
    brand: str = ""
    model_type: str = "text"
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    created_at_ms: int = 0
    # Beside the place that `provider_id` and `upstream_model` name.
    deployments: tuple[Deployment, ...] = ()

    def price_at(self, now_ms: int) -> Price | None:
        """The price in force at that moment; None where none is yet."""
        found: Price | None = None
        for price in self.prices:
            if price.valid_from_ms > now_ms:
                break
            found = price
        return found


# The credential that is there without being added.
DEFAULT_CREDENTIAL = "default"


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """Where a model's requests go. `usable` is False while a credential that is required has not
    been fetched.
    """

    provider_id: ProviderId
    name: str
    kind: ProviderKind
    base_url: str
    enabled: bool
    timeout_ms: int
    credential_required: bool = False
    # Of a cloud's endpoint, and the dated API there; empty where the kind needs none.
    region: str = ""
    api_version: str = ""
    # Never printed and never logged.
    credential: str | None = field(default=None, repr=False)
    # Which of the provider's credentials it is. Those of the first rank share the traffic by their
    # weights; the others are turned to where these fail.
    credential_id: str = DEFAULT_CREDENTIAL
    rank: int = 0
    weight: int = 1
    # The same with each credential that is known, where there are several.
    variants: tuple[ProviderEntry, ...] = field(default=(), repr=False)

    @property
    def usable(self) -> bool:
        """True where requests can be sent to it."""
        return self.enabled and (self.credential is not None or not self.credential_required)
