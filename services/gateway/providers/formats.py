"""Which format each kind of provider speaks."""

from __future__ import annotations

import aiohttp

from services.gateway.ports import ProviderKind
from services.gateway.providers.anthropic.request import AnthropicFormat
from services.gateway.providers.bedrock.request import BedrockFormat
from services.gateway.providers.gemini.request import GeminiFormat
from services.gateway.providers.http import HttpProvider, PoolLimits
from services.gateway.providers.openai_compatible import AzureOpenAiFormat, OpenAiFormat
from services.gateway.providers.port import ChatProvider
from services.gateway.providers.wire import WireFormat

FORMATS: dict[ProviderKind, WireFormat] = {
    "openai_compatible": OpenAiFormat(),
    "anthropic": AnthropicFormat(),
    "gemini": GeminiFormat(),
    "bedrock": BedrockFormat(),
    "azure_openai": AzureOpenAiFormat(),
}


def chat_providers(
    session: aiohttp.ClientSession, limits: PoolLimits
) -> dict[ProviderKind, ChatProvider]:
    """An adapter for every kind, over one pool."""
    return {kind: HttpProvider(session, wire, limits) for kind, wire in FORMATS.items()}
