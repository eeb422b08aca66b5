"""POST /v1/chat/compare: from ASGI messages to the comparison and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.common.errors import AppError
from services.common.telemetry import Span, span_from
from services.gateway.auth import authenticate, require_active
from services.gateway.calls import ChatCall
from services.gateway.chat_request import body_from_bytes
from services.gateway.compare.plan import ComparePlan, plan_from_body
from services.gateway.compare.run import Comparison
from services.gateway.entrypoints.app import head_of
from services.gateway.entrypoints.chat_lane import ChatLane, LaneReply
from services.gateway.entrypoints.dialect_docs import Open, described
from services.gateway.envelope import error_ending
from services.gateway.interrupt import InterruptGroup
from services.gateway.ports import KeyPrincipal

router = APIRouter(prefix="/v1/chat", tags=["chat"])
ROUTE = "/v1/chat/compare"


Json = dict[str, Any]  # Any: JSON


class CompareRequest(Open):
    """One question to several models."""

    models: list[str]
    messages: list[Json]
    model_overrides: list[Json] | None = None
    comparison_model: str | None = None
    comparison_instructions: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stream: bool = False
    skip_comparison: bool = False


class CompareResult(BaseModel):
    """What one model answered, or why it did not."""

    model: str
    response_body: Json | None
    content: str | None
    latency_ms: int
    error: str | None
    error_code: str | None
    usage: Json | None
    request_id: str


class Compared(BaseModel):
    """All answers, and the comparison of them."""

    comparison_id: str
    object: str
    created: int
    models: list[str]
    results: list[CompareResult]
    comparison: str | None
    comparison_model: str | None
    comparison_usage: Json | None
    comparison_fallback_used: bool
    total_latency_ms: int
    partial: bool
    skip_comparison: bool


_USER = {"role": "user", "content": "What is the capital of France?"}
COMPARE = described(
    CompareRequest,
    Compared,
    body={"models": ["openai/gpt-4o-mini", "google/gemini-2.5-flash"], "messages": [_USER]},
    shown={
        "comparison_id": "cmp_01JZ0000000000000000000000",
        "object": "compare.completion",
        "created": 1760000000,
        "models": ["openai/gpt-4o-mini"],
        "results": [
            {
                "model": "openai/gpt-4o-mini",
                "response_body": None,
                "content": "Paris.",
                "latency_ms": 412,
                "error": None,
                "error_code": None,
                "usage": {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16},
                "request_id": "req_01JZ0000000000000000000000:1",
            }
        ],
        "comparison": None,
        "comparison_model": None,
        "comparison_usage": None,
        "comparison_fallback_used": False,
        "total_latency_ms": 415,
        "partial": False,
        "skip_comparison": True,
    },
    streams=True,
)


@router.post("/compare", **COMPARE)
async def compare(request: Request) -> Response:
    """The answers of several models to one question, and a comparison of them."""
    return CompareResponse(request)


class CompareResponse(Response):
    """An answer that the comparison writes, as it goes."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._lane: ChatLane = request.app.state.lane
        self._head = head_of(request)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        lane, head = self._lane, self._head
        reply = LaneReply(send, [])
        interrupts = InterruptGroup()
        reader = lane.reader(head, receive)
        reader.interrupt = interrupts
        call = lane.call(head, ROUTE, reader.read)
        with span_from(head.traceparent, "POST " + ROUTE) as trace:
            trace.set("mesh.request_id", head.request_id)
            try:
                await _serve(lane, call, reply, interrupts=interrupts, trace=trace)
            except AppError as error:
                await reply.finish(error_ending(error, head.request_id))
            finally:
                reader.stop()


async def _serve(
    lane: ChatLane, call: ChatCall, reply: LaneReply, *, interrupts: InterruptGroup, trace: Span
) -> None:
    pipeline = lane.pipeline
    pipeline.freshness.require()
    caller = authenticate(call.authorization, pipeline.keys, call.received_at_ms)
    try:
        plan = await _plan(lane, call, caller)
    except AppError as fault:
        # One request that is refused: the pipeline says so and logs it, as it does with any.
        refused = replace(call, read_body=_raising(fault))
        await pipeline.serve(refused, reply, interrupt=interrupts.new(), trace=trace)
        return
    comparison = Comparison(
        pipeline,
        call,
        plan,
        reply=reply,
        interrupts=interrupts,
        trace=trace,
        settings=caller.settings,
    )
    await comparison.run()


async def _plan(lane: ChatLane, call: ChatCall, caller: KeyPrincipal) -> ComparePlan:
    require_active(caller)
    lane.pipeline.quotas.check(caller)
    return plan_from_body(body_from_bytes(await call.read_body()))


def _raising(fault: AppError) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        raise fault

    return read
