"""What a request may cost before it is sent, and what it did use: estimates, the tally, the cost.

All arithmetic with rates is in `money`; token counts here are split into disjoint kinds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from services.common.money import Price, TokenKind, cost_nanousd, tokens_within
from services.gateway import tokens
from services.gateway.chat_request import ChatRequest
from services.gateway.errors import ContextWindowExceeded
from services.gateway.ports import ModelEntry

UsageBasis = Literal["provider", "tokenizer", "none"]
# A count beyond this is a fault of the provider, not a length.
_TOKENS_SANE_MAX = 10**10


@dataclass(frozen=True, slots=True)
class EstimateRules:
    """How careful an estimate is."""

    # For prompts of models whose own tokenizer is not here.
    safety_factor: float = 1.3
    # Where neither caller nor catalogue bounds the answer.
    output_tokens_default: int = 4_096
    # The shortest answer that is worth being clamped to.
    output_tokens_least: int = 16
    # What is held at once of an answer whose length the caller does not bound, for each choice.
    output_tokens_slice: int = 512


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is held for a request, in full and at the least that makes sense. Tokens are of all
    choices together. In full is the most that it can cost, or its first slice where it has slices.
    """

    prompt_tokens: int
    output_tokens: int
    full_nanousd: int
    least_nanousd: int
    prompt_kind: TokenKind
    output_kind: TokenKind
    # True where the output bound is ours alone and must be sent upstream.
    send_limit: bool
    # Tokens by which the hold grows while the answer comes; 0 where all of it is held at once.
    slice_tokens: int = 0


async def estimate(
    request: ChatRequest,
    model: ModelEntry,
    price: Price,
    *,
    rules: EstimateRules,
    counted: bool = False,
) -> Estimate:
    """The estimate for one model. Raises ContextWindowExceeded where the prompt does not fit.

    `counted`: the tokens are needed even where nobody pays for them.
    """
    if price.is_free and not counted and _surely_fits(request, model):
        # Nobody pays, so nobody needs the count.
        return Estimate(0, 0, 0, 0, TokenKind.PROMPT, TokenKind.COMPLETION, send_limit=False)
    found = await tokens.count_prompt(request.prompt, model.tokenizer)
    if request.operation == "chat" and 0 < model.context_length < found:
        raise ContextWindowExceeded(
            f"the prompt has about {found} tokens; {model.model_id} takes {model.context_length}"
        )
    exact = tokens.is_exact(model.tokenizer)
    prompt = found if exact else math.ceil(found * rules.safety_factor)
    bound, ours = _output_bound(request, model, found, rules=rules)
    output = bound * request.choices
    least = min(rules.output_tokens_least, bound) * request.choices
    slice_tokens = rules.output_tokens_slice * request.choices if _grows(request, model) else 0
    if slice_tokens >= output and not ours:
        slice_tokens = 0
    prompt_kind = _dearest(price, prompt, _prompt_kinds(request))
    output_kind = _dearest(price, prompt, _output_kinds(request))
    held = {prompt_kind: prompt, output_kind: slice_tokens or output}
    return Estimate(
        prompt_tokens=prompt,
        output_tokens=output,
        full_nanousd=cost_nanousd(held, price),
        least_nanousd=cost_nanousd({prompt_kind: prompt, output_kind: least}, price),
        prompt_kind=prompt_kind,
        output_kind=output_kind,
        send_limit=ours and not slice_tokens,
        slice_tokens=slice_tokens,
    )


def affordable_output(guess: Estimate, price: Price, amount_nanousd: int) -> int:
    """The most output tokens, at most the estimate's, that cost no more than the amount with the
    prompt.
    """
    return tokens_within(
        amount_nanousd,
        price,
        kind=guess.output_kind,
        beside={guess.prompt_kind: guess.prompt_tokens},
        most=guess.output_tokens,
    )


def _surely_fits(request: ChatRequest, model: ModelEntry) -> bool:
    """No text has more tokens than bytes, so a short one needs no counting."""
    parts = request.prompt
    if not model.context_length:
        return True
    plain = not (parts.images or parts.audio_bytes or parts.videos)
    return plain and parts.text_bytes_max + 8 * parts.messages + 8 <= model.context_length


def _output_bound(
    request: ChatRequest, model: ModelEntry, prompt: int, *, rules: EstimateRules
) -> tuple[int, bool]:
    """Output tokens of one choice at most, and whether nobody but us bounds them."""
    if request.operation != "chat":
        return 0, False
    bounds = [bound for bound in (request.output_tokens_max, model.max_output_tokens) if bound]
    if model.context_length:
        bounds.append(max(1, model.context_length - prompt))
    return (min(bounds), False) if bounds else (rules.output_tokens_default, True)


def _grows(request: ChatRequest, model: ModelEntry) -> bool:
    """True where the hold can grow with the answer: nobody bounds its length, and all that is
    billed of it is seen as it comes. Of what a model thinks, or says aloud, that is not certain.
    """
    seen = request.streams_upstream and not request.wants_audio and not model.capabilities.reasoning
    return request.operation == "chat" and request.output_tokens_max is None and seen


def _prompt_kinds(request: ChatRequest) -> list[TokenKind]:
    kinds = [TokenKind.PROMPT, TokenKind.CACHED_PROMPT, TokenKind.CACHE_WRITE]
    return [*kinds, TokenKind.AUDIO_PROMPT] if request.prompt.audio_bytes else kinds


def _output_kinds(request: ChatRequest) -> list[TokenKind]:
    kinds = [TokenKind.COMPLETION, TokenKind.REASONING]
    return [*kinds, TokenKind.AUDIO_COMPLETION] if request.wants_audio else kinds


def _dearest(price: Price, prompt_tokens: int, kinds: Sequence[TokenKind]) -> TokenKind:
    return max(kinds, key=lambda kind: price.rate(kind, prompt_tokens))


@dataclass(slots=True)
class Usage:
    """Tokens as the wire shows them: totals that include their details."""

    prompt: int
    completion: int
    cached: int = 0
    cache_write: int = 0
    audio_prompt: int = 0
    reasoning: int = 0
    audio_completion: int = 0

    def quantities(self) -> dict[TokenKind, int]:
        """The same, split into disjoint kinds; kinds that do not occur are left out."""
        split = {
            TokenKind.CACHED_PROMPT: self.cached,
            TokenKind.CACHE_WRITE: self.cache_write,
            TokenKind.AUDIO_PROMPT: self.audio_prompt,
            TokenKind.PROMPT: self.prompt - self.cached - self.cache_write - self.audio_prompt,
            TokenKind.REASONING: self.reasoning,
            TokenKind.AUDIO_COMPLETION: self.audio_completion,
            TokenKind.COMPLETION: self.completion - self.reasoning - self.audio_completion,
        }
        return {kind: count for kind, count in split.items() if count}

    def to_wire(self) -> dict[str, Any]:  # Any: JSON
        """The `usage` object of an answer; details only where there are some."""
        wire: dict[str, Any] = {  # Any: JSON
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        prompt = {
            "cached_tokens": self.cached,
            "cache_write_tokens": self.cache_write,
            "audio_tokens": self.audio_prompt,
        }
        completion = {
            "reasoning_tokens": self.reasoning,
            "audio_tokens": self.audio_completion,
        }
        for name, details in (
            ("prompt_tokens_details", prompt),
            ("completion_tokens_details", completion),
        ):
            present = {key: count for key, count in details.items() if count}
            if present:
                wire[name] = present
        return wire


def usage_from_wire(wire: Any) -> Usage | None:  # Any: JSON
    """A provider's usage; None where it says nothing usable. Details never exceed the total they
    are part of.
    """
    if not isinstance(wire, dict):
        return None
    prompt, completion = token_count(wire, "prompt_tokens"), token_count(wire, "completion_tokens")
    if prompt is None or completion is None:
        return None
    reads = _details(wire, "prompt_tokens_details")
    writes = _details(wire, "completion_tokens_details")
    reasoning = token_count(writes, "reasoning_tokens") or 0
    if reasoning and token_count(wire, "total_tokens") == prompt + completion + reasoning:
        # Some providers count reasoning beside the completion instead of inside it.
        completion += reasoning
    cached = min(token_count(reads, "cached_tokens") or 0, prompt)
    cache_write = min(token_count(reads, "cache_write_tokens") or 0, prompt - cached)
    audio_prompt = min(token_count(reads, "audio_tokens") or 0, prompt - cached - cache_write)
    reasoning = min(reasoning, completion)
    audio_completion = min(token_count(writes, "audio_tokens") or 0, completion - reasoning)
    return Usage(prompt, completion, cached, cache_write, audio_prompt, reasoning, audio_completion)


def _details(wire: Mapping[str, Any], name: str) -> Mapping[str, Any]:  # Any: JSON
    value = wire.get(name)
    return value if isinstance(value, dict) else {}


def token_count(wire: Mapping[str, Any], name: str) -> int | None:  # Any: JSON
    """A count of a provider's usage; None where it is none."""
    value = wire.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _TOKENS_SANE_MAX and value == int(value) else None


TallyMark = tuple[int, int]
# Whose a piece is where it is none of the first choice's words: choice, kind, number of the call.
Slot = tuple[int, str, int]


WORDS_SLOT: Slot = (0, "content", 0)


@dataclass(slots=True)
class UsageTally:
    """What one answer used: the provider's word where there is one, else counted from what was
    produced.
    """

    reported: Usage | None = None
    texts: list[str] = field(default_factory=list)
    reasoning_texts: list[str] = field(default_factory=list)
    # True once an answer is there that has no text: vectors, verdicts.
    answered: bool = False
    # By place in `texts` and in `reasoning_texts`; the first choice's words are not in it.
    _slots: dict[int, Slot] = field(default_factory=dict)
    _reasoning_slots: dict[int, Slot] = field(default_factory=dict)

    def add(self, text: str, slot: Slot) -> None:
        """Takes a piece of what the caller sees."""
        if slot != WORDS_SLOT:
            self._slots[len(self.texts)] = slot
        self.texts.append(text)

    def add_reasoning(self, text: str, choice: int) -> None:
        """Takes a piece of what the model thought."""
        if choice:
            self._reasoning_slots[len(self.reasoning_texts)] = (choice, "reasoning", 0)
        self.reasoning_texts.append(text)

    def joined(self) -> tuple[list[str], list[str]]:
        """What was said and what was thought, each choice's and each call's for itself: so that the
        order in which the pieces came does not change what they are counted to.
        """
        return _joined(self.texts, self._slots), _joined(
            self.reasoning_texts, self._reasoning_slots
        )

    def mark(self) -> TallyMark:
        """Where the tally stands, to come back to."""
        return len(self.texts), len(self.reasoning_texts)

    def rewind(self, mark: TallyMark) -> None:
        """Forgets what came after the mark, which was not passed on, and the provider's count, in
        which it is.
        """
        del self.texts[mark[0] :], self.reasoning_texts[mark[1] :]
        for slots, start in ((self._slots, mark[0]), (self._reasoning_slots, mark[1])):
            for place in [place for place in slots if place >= start]:
                del slots[place]
        self.reported = None

    @property
    def produced(self) -> bool:
        """True once the provider has produced or reported anything."""
        return bool(self.texts or self.reasoning_texts or self.reported or self.answered)

    async def settle(self, request: ChatRequest, tokenizer: str) -> tuple[Usage, UsageBasis]:
        """The usage to bill and on what ground it stands; nothing where nothing was produced."""
        if self.reported is not None:
            return self.reported, "provider"
        if not self.produced:
            return Usage(0, 0), "none"
        prompt = await tokens.count_prompt(request.prompt, tokenizer)
        said, thought = self.joined()
        reasoning = await tokens.count_text(thought, tokenizer)
        visible = await tokens.count_text(said, tokenizer)
        return Usage(prompt, visible + reasoning, reasoning=reasoning), "tokenizer"


def _joined(pieces: Sequence[str], slots: Mapping[int, Slot]) -> list[str]:
    if not slots:
        return ["".join(pieces)]
    found: dict[Slot, list[str]] = {}
    for place, piece in enumerate(pieces):
        found.setdefault(slots.get(place, WORDS_SLOT), []).append(piece)
    return ["".join(parts) for parts in found.values()]
