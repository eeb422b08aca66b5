"""What may be set on a provider and on a model, and what is refused.

Every check raises InvalidArgument that names the field as the gRPC API calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import urlsplit

from services.common.errors import InvalidArgument
from services.common.ids import ModelId, ProviderId

FREE_SUFFIX = ":free"
TIMEOUT_MS_MAX = 3_600_000
CONTEXT_LENGTH_MAX = 1_000_000_000
DEPLOYMENTS_MAX = 32
PRIORITY_MAX = 100
WEIGHT_MAX = 1_000
MODALITIES = frozenset({"text", "image", "audio", "video", "file"})
MODEL_TYPES = frozenset({"text", "embedding", "image", "audio", "video", "moderation"})
TOKENIZERS = frozenset({"", "cl100k_base", "o200k_base"})

_PROVIDER_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.~@-]+)+(:[\w.-]+)?", re.ASCII)
_MODEL_ID_LENGTH_MAX = 200


class ProviderKind(StrEnum):
    """Which wire protocol a provider speaks."""

    OPENAI_COMPATIBLE = "openai_compatible"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK = "bedrock"
    AZURE_OPENAI = "azure_openai"


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """A provider as the operator set it; the credential is kept apart."""

    name: str
    kind: ProviderKind
    base_url: str
    enabled: bool = True
    credential_required: bool = True
    timeout_ms: int = 600_000
    # Of a cloud's endpoint, and the dated API there; empty where the kind needs none.
    region: str = ""
    api_version: str = ""


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What a model can be asked for."""

    streaming: bool = False
    tools: bool = False
    structured_output: bool = False
    system_prompt: bool = False
    reasoning: bool = False
    embeddings: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """Another place where a model is served, at the model's price. Lower priorities are tried
    first, the model's own place has 0; those of one priority share the traffic by weight.
    """

    provider_id: ProviderId
    upstream_model: str
    priority: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model as the operator or the seed set it. Lengths in tokens, 0 where not known."""

    name: str
    provider_id: ProviderId
    upstream_model: str
    description: str = ""
    brand: str = ""
    context_length: int = 0
    max_output_tokens: int = 0
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)
    capabilities: ModelCapabilities = field(default_factory=ModelCapabilities)
    enabled: bool = True
    model_type: str = "text"
    tokenizer: str = ""
    # Beside the place that `provider_id` and `upstream_model` name.
    deployments: tuple[Deployment, ...] = ()


def is_model_id(text: str) -> bool:
    """True for `vendor/name`, case-sensitive, with more parts or a suffix such as `:free`."""
    return len(text) <= _MODEL_ID_LENGTH_MAX and _MODEL_ID.fullmatch(text) is not None


def checked_model_id(text: str) -> ModelId:
    """The model id; InvalidArgument where it is not shaped `vendor/name`."""
    if not is_model_id(text):
        raise InvalidArgument.of("model_id", "must look like vendor/name, with :free at most")
    return ModelId(text)


def checked_provider_id(text: str) -> ProviderId:
    """The provider id; InvalidArgument where it is not lower-case letters, digits, - and _."""
    if _PROVIDER_ID.fullmatch(text) is None:
        raise InvalidArgument.of("provider_id", "must be lower-case letters, digits, - and _")
    return ProviderId(text)


def checked_provider(settings: ProviderSettings) -> ProviderSettings:
    """The settings with the base URL in its one form, without a slash at its end."""
    _length("settings.name", settings.name, most=200)
    if not 1 <= settings.timeout_ms <= TIMEOUT_MS_MAX:
        raise InvalidArgument.of("settings.timeout_ms", f"must be 1 to {TIMEOUT_MS_MAX}")
    for name in ("region", "api_version"):
        text = getattr(settings, name)
        if text and _TOKEN.fullmatch(text) is None:
            raise InvalidArgument.of(f"settings.{name}", "must be letters, digits, dots and dashes")
    return replace(settings, base_url=checked_base_url(settings.base_url))


def checked_base_url(text: str) -> str:
    """An absolute http or https address without credentials, query or fragment."""
    where = "settings.base_url"
    _length(where, text, most=500)
    if re.search(r"[\s\x00-\x1f\\]", text):
        raise InvalidArgument.of(where, "must not have spaces or control characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument.of(where, "is not a URL") from error
    if parts.scheme not in {"http", "https"}:
        raise InvalidArgument.of(where, "must start with http:// or https://")
    if not parts.hostname or port == 0:
        raise InvalidArgument.of(where, "must name a host")
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument.of(where, "must not carry a user name or password")
    if "?" in text or "#" in text:
        raise InvalidArgument.of(where, "must not have a query or a fragment")
    return text.rstrip("/")


def checked_model(settings: ModelSettings) -> ModelSettings:
    """The settings as they are; InvalidArgument names the first field that is wrong."""
    _length("settings.name", settings.name, most=200)
    _length("settings.upstream_model", settings.upstream_model, most=200)
    _length("settings.description", settings.description, least=0, most=4000)
    _length("settings.brand", settings.brand, least=0, most=100)
    checked_provider_id(settings.provider_id)
    for name in ("context_length", "max_output_tokens"):
        if not 0 <= getattr(settings, name) <= CONTEXT_LENGTH_MAX:
            raise InvalidArgument.of(f"settings.{name}", f"must be 0 to {CONTEXT_LENGTH_MAX}")
    _check_deployments(settings)
    _known("settings.input_modalities", settings.input_modalities)
    _known("settings.output_modalities", settings.output_modalities)
    if settings.model_type not in MODEL_TYPES:
        raise InvalidArgument.of("settings.model_type", f"must be one of {sorted(MODEL_TYPES)}")
    if settings.tokenizer not in TOKENIZERS:
        raise InvalidArgument.of("settings.tokenizer", f"must be one of {sorted(TOKENIZERS)}")
    return settings


def _check_deployments(settings: ModelSettings) -> None:
    where = "settings.deployments"
    if len(settings.deployments) > DEPLOYMENTS_MAX:
        raise InvalidArgument.of(where, f"has more than {DEPLOYMENTS_MAX} entries")
    places = {(settings.provider_id, settings.upstream_model)}
    for place in settings.deployments:
        checked_provider_id(place.provider_id)
        _length(f"{where}.upstream_model", place.upstream_model, most=200)
        if not 0 <= place.priority <= PRIORITY_MAX or not 1 <= place.weight <= WEIGHT_MAX:
            wanted = f"a priority of 0 to {PRIORITY_MAX} and a weight of 1 to {WEIGHT_MAX}"
            raise InvalidArgument.of(where, f"must have {wanted}")
        if (place.provider_id, place.upstream_model) in places:
            raise InvalidArgument.of(where, "names a place twice")
        places.add((place.provider_id, place.upstream_model))


def _length(where: str, text: str, *, most: int, least: int = 1) -> None:
    if not least <= len(text.strip()) <= len(text) <= most:
        raise InvalidArgument.of(where, f"must have {least} to {most} characters")


def _known(where: str, modalities: Iterable[str]) -> None:
    given = list(modalities)
    if not given or len(set(given)) != len(given) or not set(given) <= MODALITIES:
        raise InvalidArgument.of(where, f"must be some of {sorted(MODALITIES)}, each once")
