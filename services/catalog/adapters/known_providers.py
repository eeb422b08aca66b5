"""Public endpoints of well-known providers, as data. The ids are those of the price package.

Base URLs carry the version of the API, so that a client appends the route alone:
`/chat/completions` for OpenAI-compatible ones, `/messages` for Anthropic, `/models/...` for Gemini,
`/model/...` for Bedrock. Azure OpenAI is not here: its address is each operator's own resource.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.catalog.domain.settings import ProviderKind, ProviderSettings
from services.common.ids import ProviderId


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """`serves` is a pattern of the package's model ids that this endpoint knows by that name."""

    provider_id: ProviderId
    name: str
    base_url: str
    kind: ProviderKind = ProviderKind.OPENAI_COMPATIBLE
    upstream_prefix: str = ""
    serves: str = ".+"
    # Searches the web on its own for every request, so that a price per search cannot be left out.
    searches: str = "(?!)"

    @property
    def settings(self) -> ProviderSettings:
        return ProviderSettings(name=self.name, kind=self.kind, base_url=self.base_url)


def _known(provider_id: str, name: str, base_url: str) -> KnownProvider:
    return KnownProvider(ProviderId(provider_id), name, base_url)


KNOWN_PROVIDERS: tuple[KnownProvider, ...] = (
    KnownProvider(
        ProviderId("openai"),
        "OpenAI",
        "https://api.openai.com/v1",
        # What was fine-tuned has a name of its own for each owner.
        serves=r"(?!ft:|.*\.ft-).+",
        searches=r".*(deep-research|-search-).*",
    ),
    KnownProvider(
        ProviderId("anthropic"),
        "Anthropic",
        "https://api.anthropic.com/v1",
        kind=ProviderKind.ANTHROPIC,
    ),
    # The package lists what Google's cloud resells as well; this endpoint serves Google's own.
    KnownProvider(
        ProviderId("google"),
        "Google Gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        kind=ProviderKind.GEMINI,
        serves=r"(gemini|gemma)-.+",
    ),
    # Signed for its region; an operator elsewhere changes the address. Speech is another API.
    KnownProvider(
        ProviderId("aws"),
        "Amazon Bedrock",
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        kind=ProviderKind.BEDROCK,
        serves=r"(?!.*(sonic|embed)).+",
    ),
    _known("groq", "Groq", "https://api.groq.com/openai/v1"),
    _known("mistral", "Mistral", "https://api.mistral.ai/v1"),
    _known("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
    _known("together", "Together AI", "https://api.together.xyz/v1"),
    KnownProvider(
        ProviderId("fireworks"),
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        upstream_prefix="accounts/fireworks/models/",
    ),
    # Names without a vendor are aliases that the endpoint does not take; `:batch` is another API.
    KnownProvider(
        ProviderId("openrouter"),
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        serves=r"[^/]+/(?!.*:batch$).+",
        searches=r".*(deep-research|-search|sonar).*",
    ),
    _known("x-ai", "xAI", "https://api.x.ai/v1"),
    _known("cohere", "Cohere", "https://api.cohere.ai/compatibility/v1"),
    KnownProvider(
        ProviderId("perplexity"),
        "Perplexity",
        "https://api.perplexity.ai",
        searches=r".*(deep-research|-search|/sonar).*",
    ),
    _known("cerebras", "Cerebras", "https://api.cerebras.ai/v1"),
    _known("novita", "Novita AI", "https://api.novita.ai/v3/openai"),
    _known("moonshotai", "Moonshot AI", "https://api.moonshot.ai/v1"),
    _known("minimax", "MiniMax", "https://api.minimax.io/v1"),
    _known("zai", "Z.AI", "https://api.z.ai/api/paas/v4"),
    _known("ovhcloud", "OVHcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"),
    _known("avian", "Avian", "https://api.avian.io/v1"),
    _known("baseten", "Baseten", "https://inference.baseten.co/v1"),
)
