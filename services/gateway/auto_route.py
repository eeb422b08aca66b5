"""`model: "auto"`: a model for a request, by what it needs and what the caller wants most. Pure and
deterministic; nobody is asked.

A model is able where its kind, its modalities, its capabilities and its context fit; among the able
ones the profile weighs price, the time until the first token as this worker has seen it, and, for
want of a better measure that an operator would have to keep, price again as the sign of quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.common.errors import InvalidArgument
from services.common.money import TokenKind, cost_nanousd
from services.gateway.chat_request import ChatRequest, Operation
from services.gateway.ports import Catalogue, KeySettings, ModelEntry, ProviderKind
from services.gateway.routing import can_do

AUTO = "auto"
Profile = Literal["quality_first", "balanced", "cost_first", "latency_first"]
# How many models beside the chosen one may serve where that one cannot.
ALTERNATES = 2
# Output that a request is reckoned with where it sets no limit.
_OUTPUT_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each thing counts; they sum to 1."""

    quality: float
    price: float
    latency: float


WEIGHTS: Mapping[Profile, Weights] = {
    "quality_first": Weights(0.75, 0.1, 0.15),
    "balanced": Weights(0.4, 0.4, 0.2),
    "cost_first": Weights(0.1, 0.8, 0.1),
    "latency_first": Weights(0.15, 0.15, 0.7),
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model. Tokens are an estimate."""

    operation: Operation = "chat"
    prompt_tokens: int = 0
    output_tokens: int = _OUTPUT_TOKENS
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    tools: bool = False
    structured_output: bool = False
    system_prompt: bool = False
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen model, those that may stand in for it, best first, and why it is not what was
    needed, if it is not.
    """

    model_id: str
    alternates: tuple[str, ...] = ()
    fallback_reason: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    model: ModelEntry
    cost_nanousd: int


def is_auto(name: str) -> bool:
    """True for "auto" in any case, blanks around it allowed."""
    return name.strip().lower() == AUTO


def profile_of(*names: str) -> Profile:
    """The first that is given; an unknown one means the balanced one."""
    given = next((name for name in names if name), "")
    return next((profile for profile in WEIGHTS if profile == given), "balanced")


def needs_of(request: ChatRequest, prompt_tokens: int) -> Needs:
    """What this request asks of a model."""
    upstream, prompt = request.upstream, request.prompt
    shape = upstream.get("response_format", {}).get("type", "text")
    effort = upstream.get("reasoning_effort", "none")
    inputs = {
        name
        for name, given in (
            ("image", prompt.images),
            ("audio", prompt.audio_bytes),
            ("video", prompt.videos),
        )
        if given
    }
    roles = {message["role"] for message in upstream.get("messages", ())}
    return Needs(
        operation=request.operation,
        prompt_tokens=prompt_tokens,
        output_tokens=request.output_tokens_max or _OUTPUT_TOKENS,
        inputs=frozenset(inputs),
        outputs=frozenset({"audio"} if request.wants_audio else ()),
        tools="tools" in upstream,
        structured_output=shape != "text",
        system_prompt=bool(roles & {"system", "developer"}),
        reasoning=effort != "none",
    )


@dataclass(frozen=True, slots=True)
class AutoRouter:
    """Chooses among the models of the catalogue that the key may call."""

    catalogue: Catalogue
    kinds: Collection[ProviderKind]
    # Milliseconds until a model's first token, lately; None where it has not been seen.
    latency_ms: Callable[[str], float | None]

    def select(
        self,
        needs: Needs,
        settings: KeySettings,
        now_ms: int,
        *,
        profile: Profile = "balanced",
        exclude: Collection[str] = (),
        candidates: Collection[str] | None = None,
    ) -> Selection:
        """The model for it. Where none can do all that is needed, the key's default or else the
        best of those that can at least answer, with the reason.

        Raises InvalidArgument where no model is left to choose from.
        """
        usable = [
            found
            for model in self.catalogue.models()
            if (candidates is None or model.model_id in candidates)
            and model.model_id not in exclude
            and settings.allows(model.model_id)
            and can_do(model, needs.operation)
            and (found := self._candidate(model, needs, now_ms)) is not None
        ]
        if not usable:
            named = "candidate_models" if candidates is not None else "model"
            raise InvalidArgument.of(named, "no model that this key may call can be chosen here")
        able = [one for one in usable if is_able(one.model, needs)]
        if able:
            best = self._ranked(able, profile)
            return Selection(best[0], tuple(best[1 : 1 + ALTERNATES]))
        fits = [one for one in usable if _fits(one.model, needs)]
        reason = "no_capable_model" if fits else "context_too_long"
        best = self._ranked(fits or usable, profile)
        chosen = settings.default_model if settings.default_model in best else best[0]
        return Selection(chosen, (), reason)

    def _candidate(self, model: ModelEntry, needs: Needs, now_ms: int) -> _Candidate | None:
        price = model.price_at(now_ms)
        provider = self.catalogue.provider(model.provider_id)
        if price is None or not model.available or provider is None:
            return None
        if not provider.usable or provider.kind not in self.kinds:
            return None
        prompt = max(1, needs.prompt_tokens)
        output = needs.output_tokens if needs.operation == "chat" else 0
        quantities = {TokenKind.PROMPT: prompt, TokenKind.COMPLETION: output}
        return _Candidate(model, cost_nanousd(quantities, price))

    def _ranked(self, candidates: Sequence[_Candidate], profile: Profile) -> list[str]:
        """Best first; ties by id, so that every worker chooses alike."""
        weights = WEIGHTS[profile]
        dear = _spread([math.log1p(one.cost_nanousd) for one in candidates])
        seen = [self.latency_ms(one.model.model_id) for one in candidates]
        slow = _spread([math.log1p(ms) if ms is not None else None for ms in seen])
        scored = []
        for one, price, latency in zip(candidates, dear, slow, strict=True):
            # Quality rises fast with the first dollars and slowly with the last ones.
            score = weights.quality * math.sqrt(price)
            score += weights.price * (1 - price) + weights.latency * (1 - latency)
            scored.append((-score, one.model.model_id))
        return [model_id for _, model_id in sorted(scored)]


def is_able(model: ModelEntry, needs: Needs) -> bool:
    """True where the model can do all of it."""
    can = model.capabilities
    asked = (
        (needs.tools, can.tools),
        (needs.structured_output, can.structured_output),
        (needs.system_prompt, can.system_prompt),
        (needs.reasoning, can.reasoning),
    )
    return (
        _fits(model, needs)
        and all(able for needed, able in asked if needed)
        and needs.inputs <= set(model.input_modalities)
        and needs.outputs <= set(model.output_modalities)
    )


def _fits(model: ModelEntry, needs: Needs) -> bool:
    if needs.operation != "chat" or not model.context_length:
        return True
    return needs.prompt_tokens + min(needs.output_tokens, 16) <= model.context_length


def _spread(values: Sequence[float | None]) -> list[float]:
    """Each value between the least (0) and the most (1) of them; the middle for what is not
    known, and for all where they are equal.
    """
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return [
        0.5 if value is None or high == low else (value - low) / (high - low) for value in values
    ]
