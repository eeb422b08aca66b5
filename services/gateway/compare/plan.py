"""What a comparison asks of whom: the chat body of each model, and of the one that compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import InvalidArgument
from services.gateway.chat_messages import TEXT_MAX, check_messages
from services.gateway.chat_request import OUTPUT_TOKENS_MAX
from services.gateway.checks import (
    Check,
    Faults,
    boolean,
    fields,
    integer,
    listed,
    mapping,
    number,
    text,
)
from services.gateway.dialects.port import Json

MODELS_MAX = 10
# The most that one model may take.
MODEL_TIMEOUT_S = 120.0
DEFAULT_INSTRUCTIONS = (
    "You compare answers of language models. Say where they agree, where they differ, which of"
    " their statements are wrong or missing, and which answer serves the question best and why."
)
_OVERRIDE = fields(
    {
        "model": text(256, length_min=1),
        "temperature": number(0, 2),
        "max_tokens": integer(1, OUTPUT_TOKENS_MAX),
        "system_prompt": text(TEXT_MAX),
    },
    required=("model",),
)
_FIELDS: Mapping[str, Check] = {
    "models": listed(text(256, length_min=1), items_max=MODELS_MAX, items_min=1),
    "model_overrides": listed(_OVERRIDE, items_max=MODELS_MAX),
    "comparison_model": text(256, length_min=1),
    "comparison_instructions": text(TEXT_MAX),
    "temperature": number(0, 2),
    "max_tokens": integer(1, OUTPUT_TOKENS_MAX),
    "stream": boolean,
    "skip_comparison": boolean,
    "cache": boolean,
    "variables": mapping,
    "timeout": number(0, 86_400, above=True),
}
# What every model is asked alike; checked where a chat body is.
_SHARED = ("temperature", "max_tokens", "cache", "template", "variables")
_LABELS = ("session_id", "end_user_id", "tags")


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """A comparison that can be run."""

    models: tuple[str, ...]
    # By model.
    bodies: Mapping[str, Json]
    question: str
    # Fields for the log and the time limit, which the comparison itself has too.
    labels: Json
    comparison_model: str
    instructions: str
    stream: bool
    skip: bool

    @property
    def calls(self) -> int:
        """How many calls of models it comes to at most."""
        return len(self.models) + (not self.skip)

    def comparison_body(self, model: str, answers: Mapping[str, str]) -> Json:
        """What the comparing model is asked, given the answers by model."""
        told = [f"Question:\n{self.question}"] if self.question else []
        told += [f"Answer of {name}:\n{answer}" for name, answer in answers.items()]
        return {
            **self.labels,
            "model": model,
            "stream": self.stream,
            "messages": [
                {"role": "system", "content": self.instructions},
                {"role": "user", "content": "\n\n".join(told)},
            ],
        }


def plan_from_body(body: Json) -> ComparePlan:
    """The plan; a model that is named twice is asked once. Raises InvalidArgument with every fault
    found.
    """
    faults = Faults()
    if "models" not in body:
        faults.add(("body", "models"), "missing", "Field required")
    for name, rule in _FIELDS.items():
        if name in body:
            rule(faults, ("body", name), body[name])
    check_messages(faults, body.get("messages"))
    faults.raise_if_any()
    models = tuple(dict.fromkeys(body["models"]))
    overrides = {entry["model"]: entry for entry in body.get("model_overrides", ())}
    for name in overrides:
        if name not in models:
            raise InvalidArgument.of("model_overrides", f"{name!r} is not among the models")
    labels = {name: body[name] for name in _LABELS if name in body}
    labels["timeout"] = min(MODEL_TIMEOUT_S, body.get("timeout", MODEL_TIMEOUT_S))
    stream, skip = body.get("stream", False), body.get("skip_comparison", False)
    shared = {
        **labels,
        **{name: body[name] for name in _SHARED if name in body},
        # Answers that are compared afterwards are gathered first.
        "stream": stream and skip,
    }
    return ComparePlan(
        models=models,
        bodies={
            name: _body(name, shared, body["messages"], override=overrides.get(name, {}))
            for name in models
        },
        question=_question(body["messages"]),
        labels=labels,
        comparison_model=body.get("comparison_model", ""),
        instructions=body.get("comparison_instructions") or DEFAULT_INSTRUCTIONS,
        stream=stream,
        skip=skip,
    )


def _body(name: str, shared: Json, messages: list[Json], *, override: Json) -> Json:
    body = {**shared, "model": name, "messages": messages}
    for field in ("temperature", "max_tokens"):
        if override.get(field) is not None:
            body[field] = override[field]
    if override.get("system_prompt"):
        rest = [m for m in messages if m["role"] not in ("system", "developer")]
        body["messages"] = [{"role": "system", "content": override["system_prompt"]}, *rest]
    return body


def _question(messages: list[Json]) -> str:
    """What the user said last, as far as it is text."""
    said = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    if isinstance(said, str):
        return said
    parts: list[Any] = said or []  # Any: JSON, checked
    return "\n".join(part["text"] for part in parts if part["type"] == "text")
