"""What a model's name tells about it, as data: the price package knows prices, not abilities.

The first matching row of a table counts. What is not known stays at the cautious default: text in
and out, and no tokenizer, so that prompts are counted with a safety factor. The operator may change
every one of these settings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.catalog.domain.settings import ModelCapabilities


@dataclass(frozen=True, slots=True)
class Traits:
    """What is read from a name."""

    model_type: str
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    capabilities: ModelCapabilities
    tokenizer: str


Table = Sequence[tuple[re.Pattern[str], str]]

_TYPES: Table = (
    (re.compile(r"moderation"), "moderation"),
    (re.compile(r"embed|^bge-"), "embedding"),
    (re.compile(r"image|banana|^imagen"), "image"),
    (re.compile(r"-omni-.*flash|^veo|^sora"), "video"),
    (re.compile(r"realtime|-live|audio|transcribe|\btts\b|voice|whisper|lyria|orpheus"), "audio"),
)
_TOKENIZERS: Table = (
    (re.compile(r"(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss)([.:-]|$)"), "o200k_base"),
    (re.compile(r"o[134](-|$)"), "o200k_base"),
    (re.compile(r"gpt-4(-|$)|gpt-3\.5-turbo|text-embedding-(3|ada-002)"), "cl100k_base"),
)
_SEES = re.compile(
    r"gpt-4o|gpt-4\.[15]|gpt-4-(turbo|vision)|gpt-[5-9](?!.*(codex|search))|^o1(-pro)?$|^o3(-pro)?$"
    r"|^o4-|claude-(3|fable|haiku|mythos|opus|sonnet)|gemini-|gemma-[34](?!.*1b)|pixtral|vision"
    r"|mistral-(small-(3\.[12]|latest)|medium-(3|latest))|llama-?4|[-.\d]vl?\b|grok-4|kimi-(k2\.5|vl)"
)
_REASONS = re.compile(
    r"^o[134](-|$)|gpt-[5-9](?!.*chat)|gpt-oss|deepseek-(r1|reasoner|v4)|thinking|(?<!non-)reason"
    r"|qwq|magistral|claude-(3-7|3\.7|fable|mythos|(opus|sonnet|haiku)-[4-9])|gemini-(2\.5|[3-9])"
    r"|grok-(3-mini|4(?!.*non-reasoning))|glm-(4\.[5-9]|5)|minimax-m|kimi-k3"
)
_PLAIN = re.compile(
    r"^(ada|babbage|curie|davinci|text-davinci)|instruct$|-base\b|^claude-(2|v1)|guard|moderation|ocr"
)


def traits_of(upstream_model: str, hears: bool = False) -> Traits:
    """The traits of a model by its upstream name; `hears`: its price has a rate for audio in."""
    name = upstream_model.rpartition("/")[2].lower()
    model_type = _first(_TYPES, name, "text")
    tokenizer = next((value for pattern, value in _TOKENIZERS if pattern.match(name)), "")
    if model_type == "embedding":
        return Traits(
            model_type, ("text",), ("text",), ModelCapabilities(embeddings=True), tokenizer
        )
    if model_type == "moderation":
        return Traits(model_type, ("text", "image"), ("text",), ModelCapabilities(), "")
    sees = model_type in {"image", "video"} or _SEES.search(name) is not None
    heard = hears or model_type == "audio"
    made = ("text",) if model_type == "text" else ("text", model_type)
    able = model_type == "text" and _PLAIN.search(name) is None
    return Traits(
        model_type=model_type,
        input_modalities=("text", *(["image"] if sees else []), *(["audio"] if heard else [])),
        output_modalities=made,
        capabilities=ModelCapabilities(
            streaming=model_type == "text",
            tools=able,
            structured_output=able,
            system_prompt=model_type == "text",
            reasoning=model_type == "text" and _REASONS.search(name) is not None,
        ),
        tokenizer=tokenizer if model_type == "text" else "",
    )


def _first(table: Table, name: str, default: str) -> str:
    return next((value for pattern, value in table if pattern.search(name)), default)
