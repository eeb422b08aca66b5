"""The response object of the Responses API: its frame, its usage, the messages it stands for."""

from __future__ import annotations

from typing import Any

from services.gateway.dialects.port import Json

# What a response repeats of its request, with the values of what was not given.
_ECHOED: Json = {
    "instructions": None,
    "previous_response_id": None,
    "background": False,
    "store": False,
    "max_output_tokens": None,
    "temperature": None,
    "top_p": None,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": None, "summary": None},
    "truncation": "disabled",
    "metadata": {},
    "user": None,
}


def response_object(
    body: Json,
    *,
    response_id: str,
    model: str,
    created_s: int,
    status: str,
    output: list[Json] | None = None,
    usage: Json | None = None,
) -> Json:
    """A response in this state; `body` is the request that it repeats."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_s,
        "status": status,
        "model": model,
        "output": output or [],
        "usage": usage,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        **{name: body.get(name, absent) for name, absent in _ECHOED.items()},
    }


def usage_object(usage: Json) -> Json:
    """The usage in this API's words."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    read = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    thought = usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": read},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + completion,
    }


def text_item(item_id: str, said: str, *, status: str = "completed") -> Json:
    """What the model said."""
    content = [] if status == "in_progress" else [text_part(said)]
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def text_part(said: str) -> Json:
    """One part of it."""
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def call_item(item_id: str, call: Json, *, status: str = "completed") -> Json:
    """A function that the model wants called."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": call["function"]["arguments"],
    }


def reasoning_item(item_id: str, thought: str) -> Json:
    """What the model thought, where its provider tells."""
    content = [{"type": "reasoning_text", "text": thought}]
    return {"id": item_id, "type": "reasoning", "summary": [], "content": content}


def output_items(response_id: str, message: Json) -> list[Json]:
    """A whole answer's message as output items."""
    stem = response_id.removeprefix("resp_")
    items: list[Json] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        items.append(reasoning_item(f"rs_{stem}", thought))
    said = message.get("content") or message.get("refusal")
    if isinstance(said, str) and said:
        items.append(text_item(f"msg_{stem}", said))
    for place, call in enumerate(message.get("tool_calls", ())):
        items.append(call_item(f"fc_{stem}_{place}", call))
    return items


def status_of(finish_reason: Any) -> str:  # Any: JSON
    """The state of a response whose answer ended for this reason."""
    return "incomplete" if finish_reason in ("length", "content_filter") else "completed"
