"""Responses that are kept, and those that are run in the background."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from services.common.clock import Clock
from services.common.errors import AppError, Conflict, NotFound
from services.common.ids import new_id
from services.common.telemetry import get_logger
from services.gateway.chat_request import ChatRequest
from services.gateway.dialects.port import Json
from services.gateway.dialects.responses import ResponsesDialect
from services.gateway.dialects.responses_body import messages_from_input
from services.gateway.dialects.responses_object import response_object
from services.gateway.envelope import Ending
from services.gateway.errors import NotImplementedHere
from services.gateway.jobs.ports import Item, Job, Jobs, NewItem, NewJob
from services.gateway.pipeline import ChatPipeline
from services.gateway.ports import KeyPrincipal
from services.gateway.templated_chat import request_over_template
from services.gateway.usage_entry import UsageEntry

_log = get_logger(__name__)

ROUTE = "/v1/responses"
DAY_MS = 86_400_000
# How long a response in the background may wait, and how long one is kept.
EXPIRES_MS = DAY_MS
KEPT_MS = 30 * DAY_MS


class Responses:
    """The responses of keys, over the jobs service."""

    def __init__(self, jobs: Jobs, pipeline: ChatPipeline, clock: Clock) -> None:
        self._jobs = jobs
        self._pipeline = pipeline
        self._clock = clock

    def dialect(self, response_id: str = "") -> ResponsesDialect:
        """The dialect of one call; a new id where none is given."""
        return ResponsesDialect(response_id or new_id("resp"), self.recall)

    async def recall(self, response_id: str, caller: KeyPrincipal) -> list[Json]:
        """The conversation that ends in this response. Raises NotFound, and Conflict where it has
        no answer.
        """
        try:
            job = await self._jobs.get(caller, "response", response_id)
            items = await self._jobs.items(caller, "response", response_id)
        except NotFound as error:
            raise NotFound(f"previous_response_id: {error.message}") from error
        if not items or items[0].http_status != 200:
            raise Conflict(f"previous_response_id: {response_id!r} has no answer to go on from")
        output = orjson.loads(items[0].answer)["output"]
        before: list[Json] = orjson.loads(job.context)["messages"]
        return [*before, *(messages_from_input(output) if output else [])]

    def keeping(self, dialect: ResponsesDialect) -> Any:  # Any: a pipeline's seal
        """What keeps the answer before it is sent, where the caller wants that."""
        return partial(self._keep, dialect)

    async def _keep(self, dialect: ResponsesDialect, entry: UsageEntry, _: Ending) -> None:
        response = dialect.response
        if response is None or response["store"] is not True or entry.error_code:
            return
        item = NewItem(
            1,
            ROUTE,
            b"",
            http_status=200,
            answer=orjson.dumps(response),
            request_id=entry.request_id,
        )
        try:
            await self._jobs.create(entry.principal, self._job(dialect, item, response["model"]))
        except AppError as error:
            # The answer is worth more than its being kept.
            _log.error("a response was not kept", response_id=dialect.response_id, error=error.code)

    async def enqueue(self, caller: KeyPrincipal, body: Json) -> Json:
        """Has the response be made in the background; returns it as it stands.

        Raises InvalidArgument for a body that could not be answered, RateLimitExceeded where too
        many are under way.
        """
        if body.get("stream"):
            raise NotImplementedHere("stream: responses in the background are not streamed")
        dialect = self.dialect()
        chat = await dialect.chat_body(body, caller)
        request: ChatRequest = request_over_template(
            "chat", chat, caller, directory=self._pipeline.templates
        )
        item = NewItem(1, ROUTE, orjson.dumps(body))
        job = await self._jobs.create(caller, self._job(dialect, item, request.models[0]))
        return _unfinished(job, "queued")

    async def view(self, caller: KeyPrincipal, response_id: str) -> Json:
        """The response as it stands. Raises NotFound."""
        job = await self._jobs.get(caller, "response", response_id)
        items = await self._jobs.items(caller, "response", response_id)
        if not items:
            raise NotFound(f"there is no response {response_id!r}")
        return _view(job, items[0])

    async def page(self, caller: KeyPrincipal, *, after: str, limit: int) -> Json:
        """Those in the background, newest first. Raises NotFound where `after` is none of them."""
        jobs, more = await self._jobs.page(caller, "response", after=after, limit=limit)
        data = [
            {
                "id": job.job_id,
                "object": "response",
                "model": job.model,
                "status": _status(job),
                "created_at": job.created_at_ms // 1000,
                "completed_at": job.completed_at_ms // 1000 or None,
                "usage_synced": job.completed_at_ms > 0,
            }
            for job in jobs
        ]
        return listed(data, has_more=more)

    def _job(self, dialect: ResponsesDialect, item: NewItem, model: str) -> NewJob:
        now_ms = self._clock.now_ms()
        keep_until_ms = now_ms + KEPT_MS
        asked = dialect.body.get("expire_at")
        if type(asked) is int and asked > 0:
            keep_until_ms = min(keep_until_ms, max(asked * 1000, now_ms + 1000))
        request = {name: value for name, value in dialect.body.items() if name != "input"}
        return NewJob(
            job_id=dialect.response_id,
            kind="response",
            model=model,
            items=[item],
            expires_at_ms=min(now_ms + EXPIRES_MS, keep_until_ms),
            keep_until_ms=keep_until_ms,
            metadata=dialect.body.get("metadata", {}),
            context=orjson.dumps({"messages": dialect.messages, "request": request}),
        )


def listed(data: list[Json], *, has_more: bool) -> Json:
    """A page in OpenAI's envelope."""
    page: Json = {"object": "list", "data": data, "has_more": has_more}
    if data:
        page["first_id"], page["last_id"] = data[0]["id"], data[-1]["id"]
    return page


def _status(job: Job) -> str:
    if job.state == "in_progress":
        return "in_progress"
    return "completed" if job.completed else "failed"


def _view(job: Job, item: Item) -> Json:
    if item.http_status == 200:
        answer: Json = orjson.loads(item.answer)
        return answer
    if not item.http_status and job.state == "in_progress":
        return _unfinished(job, "in_progress" if item.running else "queued")
    failed = _unfinished(job, "failed")
    failed["error"] = error_of(item)
    return failed


def error_of(item: Item) -> Json:
    """Code and message of an item that failed; generic ones where its workers died."""
    try:
        error = orjson.loads(item.answer)["error"]
        return {"code": error["code"], "message": error["message"]}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {"code": "internal_error", "message": "the request could not be completed"}


def _unfinished(job: Job, status: str) -> Json:
    return response_object(
        orjson.loads(job.context)["request"],
        response_id=job.job_id,
        model=job.model,
        created_s=job.created_at_ms // 1000,
        status=status,
    )
