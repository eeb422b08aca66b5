"""POST /v1/router/select: which model `auto` would take. Nothing is sent to it or billed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from services.gateway import tokens
from services.gateway.auto_route import AutoRouter, needs_of, profile_of
from services.gateway.chat_request import body_from_bytes, chat_request_from_body
from services.gateway.checks import Check, Faults, listed, one_of, text
from services.gateway.entrypoints.app import PublicReads, caller_of, head_of, reads_of
from services.gateway.entrypoints.chat_lane import ChatLane
from services.gateway.entrypoints.dialect_docs import Open, described
from services.gateway.entrypoints.system_routes import json_response
from services.gateway.ports import KeyPrincipal
from services.gateway.requests import request_from_body

router = APIRouter(prefix="/v1/router", tags=["router"])

_MODELS = listed(text(256, length_min=1), items_max=1_000)
_FIELDS: Mapping[str, Check] = {
    "api_type": one_of("completions", "responses", "embeddings"),
    "exclude_models": _MODELS,
    "candidate_models": _MODELS,
    "weight_profile": text(64),
}


class SelectRequest(Open):
    """The conversation, and what is to be chosen from."""

    messages: list[dict[str, Any]]  # Any: JSON
    api_type: str = "completions"
    exclude_models: list[str] | None = None
    candidate_models: list[str] | None = None
    weight_profile: str | None = None


class AutoRouterMeta(BaseModel):
    """Whether the choice is second best, and why."""

    fallback_used: bool
    fallback_reason: str | None = None


class Selected(BaseModel):
    """The choice."""

    model: str
    auto_router: AutoRouterMeta
    reasoning_effort: str | None = None


SELECT = described(
    SelectRequest,
    Selected,
    body={"messages": [{"role": "user", "content": "Prove that 2 is even."}]},
    shown={"model": "openai/gpt-4o-mini", "auto_router": {"fallback_used": False}},
)


@router.post("/select", **SELECT)
async def select_model(
    request: Request,
    reads: Annotated[PublicReads, Depends(reads_of)],
    caller: Annotated[KeyPrincipal, Depends(caller_of)],
) -> Response:
    """The model that `model: "auto"` would take for these messages."""
    lane: ChatLane = request.app.state.lane
    head = head_of(request)
    reader = lane.reader(head, request.receive)
    try:
        body = body_from_bytes(await reader.read())
    finally:
        reader.stop()
    faults = Faults()
    for name, rule in _FIELDS.items():
        if name in body:
            rule(faults, ("body", name), body[name])
    faults.raise_if_any()
    asked = chat_request_from_body({**body, "model": "auto"})
    if body.get("api_type") == "embeddings":
        texts = asked.prompt.texts or [" "]
        asked = request_from_body("embeddings", {"input": texts, "model": "auto"}, caller.settings)
    auto: AutoRouter = request.app.state.auto
    counted = await tokens.count_prompt(asked.prompt, "")
    chosen = auto.select(
        needs_of(asked, counted),
        caller.settings,
        reads.clock.now_ms(),
        profile=profile_of(body.get("weight_profile", ""), head.weight_profile),
        exclude=body.get("exclude_models", ()),
        candidates=body.get("candidate_models"),
    )
    meta: dict[str, Any] = {"fallback_used": bool(chosen.fallback_reason)}  # Any: JSON
    if chosen.fallback_reason:
        meta["fallback_reason"] = chosen.fallback_reason
    return json_response({"model": chosen.model_id, "auto_router": meta})
