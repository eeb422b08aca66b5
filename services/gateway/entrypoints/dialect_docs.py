"""What the description of the API says of the routes whose bodies the pipeline reads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Route = dict[str, Any]  # Any: arguments of a route's decorator


class Open(BaseModel):
    """An object that may have further fields."""

    model_config = ConfigDict(extra="allow")


class EmbeddingsRequest(Open):
    """What to embed."""

    input: str | list[str] | list[int] | list[list[int]] | list[dict[str, Any]]  # Any: JSON
    model: str | None = Field(None, description="May be left out where the key has a default.")
    dimensions: int | None = Field(None, ge=1)
    encoding_format: str | None = Field(None, pattern="^(float|base64)$")
    user: str | None = Field(None, max_length=256)


class Embedding(Open):
    """One vector; numbers, or their little-endian 32-bit floats in base 64."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Open):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Open):
    """Vectors in the order of the inputs."""

    object: str
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class ModerationRequest(Open):
    """What to judge."""

    input: str | list[str] | list[dict[str, Any]]  # Any: JSON
    model: str = "omni-moderation-latest"


class Verdict(Open):
    """What was found in one input."""

    flagged: bool
    categories: dict[str, bool] = {}
    category_scores: dict[str, float] = {}


class Moderation(Open):
    """One verdict for each input."""

    id: str
    model: str
    results: list[Verdict]


class MessagesRequest(Open):
    """A conversation in Anthropic's format."""

    model: str
    max_tokens: int = Field(ge=1)
    messages: list[dict[str, Any]] = Field(min_length=1)  # Any: JSON
    system: str | list[dict[str, Any]] | None = None  # Any: JSON
    stream: bool = False
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    tools: list[dict[str, Any]] | None = None  # Any: JSON
    tool_choice: dict[str, Any] | None = None  # Any: JSON


class MessagesUsage(Open):
    """Tokens; what came from or went into a cache is counted beside the input."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class Message(Open):
    """An answer in Anthropic's format."""

    id: str
    type: str
    role: str
    model: str
    content: list[dict[str, Any]]  # Any: JSON
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessagesUsage


class ResponsesRequest(Open):
    """A turn in the format of the Responses API."""

    input: str | list[dict[str, Any]]  # Any: JSON
    model: str | None = Field(None, description="May be left out where the key has a default.")
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    tools: list[dict[str, Any]] | None = None  # Any: JSON
    text: dict[str, Any] | None = None  # Any: JSON


class ResponseObject(Open):
    """A response and its state."""

    id: str
    object: str
    created_at: int
    status: str
    model: str
    output: list[dict[str, Any]]  # Any: JSON
    usage: dict[str, Any] | None  # Any: JSON


def described(
    request: type[BaseModel],
    answer: type[BaseModel],
    *,
    body: dict[str, Any],  # Any: JSON
    shown: dict[str, Any],  # Any: JSON
    streams: bool = False,
) -> Route:
    """Arguments of the decorator, with an example of the body and of the answer."""
    asked = {"schema": request.model_json_schema(), "example": body}
    content: dict[str, Any] = {"application/json": {"example": shown}}  # Any: JSON
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "response_model": answer,
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"application/json": asked}}
        },
        "responses": {
            200: {"description": "The answer.", "content": content},
            "default": {"description": "The error envelope."},
        },
    }


_USER: dict[str, Any] = {"role": "user", "content": "What is the capital of France?"}  # Any: JSON

EMBEDDINGS = described(
    EmbeddingsRequest,
    Embeddings,
    body={"model": "openai/text-embedding-3-small", "input": ["Paris", "Rome"]},
    shown={
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.25, -0.5]},
            {"object": "embedding", "index": 1, "embedding": [0.5, 0.125]},
        ],
        "model": "openai/text-embedding-3-small",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    },
)
MODERATIONS = described(
    ModerationRequest,
    Moderation,
    body={"input": "I like Paris."},
    shown={
        "id": "modr-01JZ0000000000000000000000",
        "model": "openai/omni-moderation-latest",
        "results": [{"flagged": False, "categories": {}, "category_scores": {}}],
    },
)
MESSAGES = described(
    MessagesRequest,
    Message,
    body={"model": "openai/gpt-4o-mini", "max_tokens": 100, "messages": [_USER]},
    shown={
        "id": "msg_01JZ0000000000000000000000",
        "type": "message",
        "role": "assistant",
        "model": "openai/gpt-4o-mini",
        "content": [{"type": "text", "text": "Paris."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 14, "output_tokens": 2},
    },
    streams=True,
)
RESPONSES = described(
    ResponsesRequest,
    ResponseObject,
    body={"model": "openai/gpt-4o-mini", "input": "What is the capital of France?"},
    shown={
        "id": "resp_01JZ0000000000000000000000",
        "object": "response",
        "created_at": 1760000000,
        "status": "completed",
        "model": "openai/gpt-4o-mini",
        "output": [
            {
                "id": "msg_01JZ0000000000000000000000",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Paris.", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 14, "output_tokens": 2, "total_tokens": 16},
    },
    streams=True,
)
