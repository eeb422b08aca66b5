"""How a provider is tried out: the request that costs nothing, and what its answer means.

The request is for the list of models, which every kind but Bedrock offers with the same credential
as its chat. What a provider writes is never passed on: some repeat a part of the credential.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.catalog.domain.settings import ProviderKind, ProviderSettings
from services.common.errors import InvalidArgument

ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A GET request."""

    url: str
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The status of the answer, 0 where there was none and `problem` says why."""

    status: int
    latency_ms: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What people are told."""

    ok: bool
    http_status: int
    message: str
    latency_ms: int


def probe_request(settings: ProviderSettings, credential: str) -> ProbeRequest:
    """The request. Raises InvalidArgument for a kind that has none."""
    base = settings.base_url.rstrip("/")
    given = bool(credential)
    match settings.kind:
        case ProviderKind.OPENAI_COMPATIBLE:
            headers = {"authorization": f"Bearer {credential}"} if given else {}
            return ProbeRequest(f"{base}/models", headers)
        case ProviderKind.ANTHROPIC:
            headers = {"anthropic-version": settings.api_version or ANTHROPIC_VERSION}
            headers |= {"x-api-key": credential} if given else {}
            root = f"{base}/v1" if urlsplit(base).path in ("", "/") else base
            return ProbeRequest(f"{root}/models", headers)
        case ProviderKind.GEMINI:
            headers = {"x-goog-api-key": credential} if given else {}
            return ProbeRequest(f"{base}/models", headers)
        case ProviderKind.AZURE_OPENAI:
            headers = {"api-key": credential} if given else {}
            dated = settings.api_version
            route = f"models?api-version={dated}" if dated else "v1/models"
            return ProbeRequest(f"{base}/openai/{route}", headers)
        case ProviderKind.BEDROCK:
            raise InvalidArgument.of(
                "provider_id", "is at Bedrock, which has no request that could be tried for free"
            )


def verdict(answer: ProbeAnswer) -> Verdict:
    """What an answer says about the provider and its credential."""
    status = answer.status
    if not status:
        message = f"There was no answer: {answer.problem}."
    elif 200 <= status < 300:
        message = "It answers, and takes the credential."
    elif status in (401, 403):
        message = f"It turned the credential down ({status})."
    elif status == 404:
        message = "There is no list of models at its address (404): check the base URL."
    elif status == 429:
        message = "It answers, but its rate limit or quota is used up (429)."
    elif status >= 500:
        message = f"It is in trouble itself ({status})."
    else:
        message = f"It refused the request ({status})."
    return Verdict(200 <= status < 300, status, message, answer.latency_ms)
