"""What the description of the API says of chat completions, whose route the framework never sees.

The fields are those of `chat_request.py`; a test compares the two.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from services.gateway.entrypoints.dialect_docs import Open

Free = dict[str, Any]  # Any: JSON
Effort = Literal["high", "medium", "low", "none"]


class ChatMessage(Open):
    """One message; `content` is a text or a list of parts."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Free] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Free] | None = None
    reasoning_details: list[Free] | None = None


class ToolFunction(Open):
    """A function that the model may call."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: Free | None = None


class Tool(Open):
    """A tool of the caller's."""

    type: Literal["function"]
    function: ToolFunction


class Reasoning(Open):
    """How much the model may think; either an effort or a number of tokens."""

    effort: Effort | None = None
    max_tokens: int | None = Field(None, ge=1)
    exclude: bool | None = None
    enabled: bool | None = None


class ChatBody(Open):
    """A conversation. Unknown fields are ignored, nulls are absent."""

    messages: list[ChatMessage] = Field(min_length=1)
    model: str | None = Field(
        None,
        max_length=256,
        description="`vendor/name` or `auto`; may be left out where the key or the template has "
        "one.",
    )
    models: list[str] | None = Field(None, max_length=16, description="Tried in this order.")
    stream: bool | None = Field(None, description="Server-sent events, ended by `[DONE]`.")
    stream_options: Free | None = Field(None, description="Ignored: usage always comes last.")
    template: str | None = Field(None, max_length=256, description="A template's name or id.")
    variables: dict[str, str] | None = Field(None, description="What fills the template's slots.")
    session_id: str | None = Field(None, max_length=256, description="Groups requests in the log.")
    end_user_id: str | None = Field(None, max_length=256, description="Your user, in the log.")
    tags: dict[str, str] | None = Field(None, description="Labels in the log; at most 32.")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=10_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = Field(None, ge=1, le=16)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    logit_bias: Free | None = None
    reasoning_effort: Effort | None = None
    reasoning: Reasoning | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | Free | None = None
    parallel_tool_calls: bool | None = None
    response_format: Free | None = Field(
        None, description="`text`, `json_object`, or `json_schema` with `{name, schema, strict?}`."
    )
    modalities: list[Literal["text", "audio", "image"]] | None = None
    audio: Free | None = None
    modality: Literal["text", "image"] | None = Field(None, description="`image` answers 501.")
    image: Free | None = None
    transforms: list[str] | None = None
    user: str | None = Field(None, max_length=256, description="Deprecated: `end_user_id`.")
    async_mode: bool | None = Field(None, description="`true` answers 501.")
    timeout: float | None = Field(None, gt=0, le=86_400, description="Seconds for the provider.")
    cache: bool | None = Field(None, description="`false`: go past the response cache.")
    service_tier: Literal["auto", "default", "flex"] | None = Field(
        None, description="`flex` answers 400."
    )
    weight_profile: str | None = Field(
        None, description="For `auto`: quality_first, balanced, cost_first, latency_first."
    )


class Usage(Open):
    """Tokens of a request; the details are part of the sums."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Free | None = None
    completion_tokens_details: Free | None = None


class AnswerMessage(Open):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None = None
    tool_calls: list[Free] | None = None


class Choice(Open):
    """One answer of `n`."""

    index: int
    message: AnswerMessage
    finish_reason: str


class ChatCompletion(Open):
    """The whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


def chat_operation() -> dict[str, Any]:  # Any: an OpenAPI operation
    """The operation, its models by reference."""
    return {
        "post": {
            "tags": ["chat"],
            "summary": "Answer a conversation, whole or as a stream of server-sent events.",
            "operationId": "create_chat_completion",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/ChatBody"},
                        "example": _BODY,
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "A chat.completion, or its chunks where `stream` is true.",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/ChatCompletion"},
                            "example": _ANSWER,
                        },
                        "text/event-stream": {"schema": {"type": "string"}, "example": _STREAM},
                    },
                }
            },
        }
    }


def chat_schemas() -> dict[str, Any]:  # Any: JSON schemas
    """The models of the operation, by name."""
    found: dict[str, Any] = {}  # Any: JSON schemas
    models: tuple[type[BaseModel], ...] = (ChatBody, ChatCompletion)
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found


_BODY = {
    "model": "openai/gpt-4o-mini",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 64,
}
_USAGE = {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
_ANSWER = {
    "id": "chatcmpl-01JZ0000000000000000000000",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "openai/gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris."},
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}
_STREAM = (
    'data: {"id":"chatcmpl-01JZ","object":"chat.completion.chunk","created":1760000000,'
    '"model":"openai/gpt-4o-mini","choices":[{"index":0,"delta":{"role":"assistant",'
    '"content":"Paris."},"finish_reason":"stop"}]}\n\n'
    'data: {"id":"chatcmpl-01JZ","object":"chat.completion.chunk","created":1760000000,'
    '"model":"openai/gpt-4o-mini","choices":[],"usage":{"prompt_tokens":14,'
    '"completion_tokens":2,"total_tokens":16}}\n\ndata: [DONE]\n\n'
)
