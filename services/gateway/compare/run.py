"""Runs a comparison: all models at once through the pipeline, then one more that compares.

Every call of a model is a request of its own to money and log: one hold, one usage event, under
request ids that begin with the comparison's. A call that fails fails alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson

from services.common.errors import AppError, RateLimitExceeded, UpstreamError
from services.common.ids import RequestId, new_id
from services.common.telemetry import Span
from services.gateway.calls import ChatCall, Reply
from services.gateway.compare.member import Member, MemberReply
from services.gateway.compare.plan import ComparePlan
from services.gateway.compare.quota import GroupQuotas
from services.gateway.dialects.chat import named_frame
from services.gateway.dialects.port import Json
from services.gateway.envelope import DONE_FRAME, Ending, error_ending, error_object
from services.gateway.interrupt import InterruptGroup
from services.gateway.pipeline import ChatPipeline
from services.gateway.ports import KeySettings, QuotaMeter
from services.gateway.requests import body_bytes


class AllModelsFailed(UpstreamError):
    """No model answered. Its status is theirs where they agree."""

    code = "all_models_failed"

    def __init__(self, members: Sequence[Member]) -> None:
        faults = [member.error for member in members if member.error is not None]
        waits = [fault.retry_after_s for fault in faults if fault.retry_after_s is not None]
        super().__init__(
            "no model answered: " + "; ".join(f"{m.model}: {m.error}" for m in members),
            retry_after_s=max(waits, default=None),
        )
        statuses = {fault.http_status for fault in faults}
        if len(statuses) == 1:
            # An instance's own, over the class's.
            self.http_status = statuses.pop()  # type: ignore[misc]  # a ClassVar by default
        self.results = [member.result() for member in members]


@dataclass(slots=True)
class Outcome:
    """What came of a comparison so far."""

    comparison_id: str
    members: list[Member]
    comparison: Member | None = None
    fallback_used: bool = False

    @property
    def partial(self) -> bool:
        """True where some model failed, or the comparison did."""
        compared = self.comparison is not None and self.comparison.error is not None
        return compared or any(member.error is not None for member in self.members)


class Comparison:
    """One comparison on its way."""

    def __init__(
        self,
        pipeline: ChatPipeline,
        call: ChatCall,
        plan: ComparePlan,
        *,
        reply: Reply,
        interrupts: InterruptGroup,
        trace: Span,
        settings: KeySettings,
    ) -> None:
        self._call = call
        self._plan = plan
        self._reply = reply
        self._interrupts = interrupts
        self._trace = trace
        self._settings = settings
        self._quotas = GroupQuotas(pipeline.quotas, plan.calls)
        # A call that goes on to another model is still one of the group.
        attempts = replace(pipeline.attempts, quotas=self._quotas)
        self._pipeline = replace(pipeline, quotas=self._quotas, attempts=attempts)
        self._announced = False
        self._writing = asyncio.Lock()
        self._begun = False
        self._waiting = b""
        self._outcome = Outcome(new_id("cmp", call.received_at_ms), [])

    async def run(self) -> None:
        """Answers the call."""
        try:
            await self._reply.finish(await self._ending())
        finally:
            out = self._outcome
            done = [*out.members, *([out.comparison] if out.comparison else [])]
            await self._quotas.end(sum(member.tokens for member in done))

    async def _ending(self) -> Ending:
        out, plan = self._outcome, self._plan
        await self._ask_all()
        answered = [member for member in out.members if member.error is None]
        if not answered and not self._begun:
            return self._all_failed()
        if not plan.skip:
            await self._show_results()
            if len(answered) > 1:
                await self._compare(answered)
        if not plan.stream:
            return Ending(200, orjson.dumps(self._whole()))
        await self._write(b"")
        last = {**self._facts(), "finish_reason": "stop"}
        if out.comparison is not None and out.comparison.error is not None:
            last["error_code"] = out.comparison.error.code
        return Ending(200, named_frame("done", last) + DONE_FRAME)

    async def _ask_all(self) -> None:
        plan = self._plan
        for number, model in enumerate(plan.models, 1):
            request_id = RequestId(f"{self._call.request_id}:{number}")
            frame = partial(_chunk_frame, "model_chunk", {"model": model})
            self._outcome.members.append(Member(model, request_id, frame))
        async with asyncio.TaskGroup() as tasks:
            for member in self._outcome.members:
                tasks.create_task(self._ask(member, plan.bodies[member.model]))

    async def _ask(self, member: Member, body: Json) -> None:
        await self._serve(member, body)
        if self._plan.stream and self._plan.skip:
            done = named_frame("model_stream_done", member.frame_facts())
            if member.error is not None and not self._begun:
                # Whether there is going to be a stream is for the others to say.
                self._waiting += done
            else:
                await self._write(done)

    async def _serve(self, member: Member, body: Json) -> None:
        async def read_body() -> bytes:
            return body_bytes(body)

        call = replace(
            self._call, request_id=member.request_id, read_body=read_body, dialect=member
        )
        try:
            member.entry = await self._pipeline.serve(
                call,
                MemberReply(self._announce, self._write),
                interrupt=self._interrupts.new(),
                trace=self._trace,
            )
        except AppError as error:
            # The key went away, or the log is out of reach: nothing was let in.
            member.error = error

    async def _compare(self, answered: list[Member]) -> None:
        """Asks the comparing model; where that fails, the first of those that have answered."""
        asked = self._plan.comparison_model or self._settings.default_model
        answers = {member.model: member.content or "" for member in answered}
        names = list(dict.fromkeys([name for name in (asked, answered[0].model) if name]))
        for number, model in enumerate(names):
            self._outcome.fallback_used = number > 0
            suffix = "c" if number == 0 else f"c{number + 1}"
            request_id = RequestId(f"{self._call.request_id}:{suffix}")
            member = Member(model, request_id, partial(_chunk_frame, "comparison_chunk", {}))
            self._outcome.comparison = member
            await self._serve(member, self._plan.comparison_body(model, answers))
            if member.error is None or member.content:
                return

    async def _show_results(self) -> None:
        """Where only the comparison streams: each answer in one piece, then all of them."""
        if not self._plan.stream:
            return
        members = self._outcome.members
        frames = []
        for member in members:
            facts = member.frame_facts()
            facts["delta"] = facts.pop("content", "")
            frames.append(named_frame("model_result", facts))
        results = [member.frame_facts() for member in members]
        facts = {"comparison_id": self._outcome.comparison_id, "results": results}
        frames.append(named_frame("results", facts))
        await self._write(b"".join(frames))

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            if not self._begun:
                self._begun = True
                await self._reply.begin_stream()
                facts = {
                    "comparison_id": self._outcome.comparison_id,
                    "models": list(self._plan.models),
                }
                data = named_frame("start", facts) + self._waiting + data
            await self._reply.write(data)

    def _announce(self, meters: Sequence[QuotaMeter]) -> None:
        if not self._announced:
            self._announced = True
            self._reply.announce(meters)

    def _all_failed(self) -> Ending:
        refusals = [m.error for m in self._outcome.members]
        if all(isinstance(refusal, RateLimitExceeded) for refusal in refusals) and refusals[0]:
            # The key is at its limit, which is no fault of the models.
            return error_ending(refusals[0], self._call.request_id)
        error = AllModelsFailed(self._outcome.members)
        ending = error_ending(error, self._call.request_id)
        shown = {**error_object(error), "results": error.results}
        body = orjson.dumps({"error": shown, "request_id": self._call.request_id})
        return replace(ending, body=body)

    def _facts(self) -> Json:
        out, clock = self._outcome, self._pipeline.clock
        elapsed = clock.monotonic_s() - self._call.received_s
        return {
            "comparison_id": out.comparison_id,
            "models": list(self._plan.models),
            "comparison_model": out.comparison.model if out.comparison else None,
            "comparison_usage": out.comparison.usage if out.comparison else None,
            "comparison_fallback_used": out.fallback_used,
            "total_latency_ms": round(elapsed * 1000),
            "partial": out.partial,
            "skip_comparison": self._plan.skip,
        }

    def _whole(self) -> Json:
        out = self._outcome
        return {
            **self._facts(),
            "object": "compare.completion",
            "created": self._call.received_at_ms // 1000,
            "results": [member.result() for member in out.members],
            "comparison": out.comparison.content if out.comparison else None,
        }


def _chunk_frame(event: str, facts: Json, text: str) -> bytes:
    """A piece of text."""
    return named_frame(event, {**facts, "delta": text})
