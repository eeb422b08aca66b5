"""Batches: what may be in one, and how one looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.common.clock import Clock
from services.common.errors import InvalidArgument, RateLimitExceeded
from services.common.ids import new_id
from services.gateway.auto_route import is_auto
from services.gateway.chat_request import Operation
from services.gateway.checks import Check, Faults, fields, listed, mapping, one_of, text, text_map
from services.gateway.dialects.port import Json
from services.gateway.errors import BatchLimitExceeded, MixedModels
from services.gateway.jobs.ports import OVER, Item, Job, Jobs, NewItem, NewJob
from services.gateway.jobs.responses import KEPT_MS, error_of
from services.gateway.jobs.responses import listed as page_of
from services.gateway.pipeline import ChatPipeline
from services.gateway.ports import KeyPrincipal

REQUESTS_MAX = 5_000
WINDOW_MS = 86_400_000
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
_REQUEST = fields(
    {
        "custom_id": text(256, length_min=1),
        "method": one_of("POST"),
        "url": one_of(CHAT, EMBEDDINGS),
        "body": mapping,
    },
    required=("custom_id", "body"),
)
_FIELDS: Mapping[str, Check] = {
    "requests": listed(_REQUEST, items_max=REQUESTS_MAX, items_min=1),
    "completion_window": one_of("24h"),
    "metadata": text_map(entries_max=16, key_max=64, value_max=512),
}


class Batches:
    """The batches of keys, over the jobs service."""

    def __init__(self, jobs: Jobs, pipeline: ChatPipeline, clock: Clock) -> None:
        self._jobs = jobs
        self._pipeline = pipeline
        self._clock = clock

    async def create(self, caller: KeyPrincipal, body: Json) -> Json:
        """Hands a batch in.

        Raises InvalidArgument, MixedModels where its requests name several models, ModelNotFound,
        BatchLimitExceeded where too many are under way.
        """
        url, model, requests = _checked(body, caller.settings.default_model)
        now_ms = self._clock.now_ms()
        if not is_auto(model):
            operation: Operation = "embeddings" if url == EMBEDDINGS else "chat"
            router = self._pipeline.attempts.router
            router.tiers((model,), caller.settings, now_ms, operation=operation)
        job = NewJob(
            job_id=new_id("batch", now_ms),
            kind="batch",
            model=model,
            items=[
                NewItem(number, url, orjson.dumps(entry["body"]), entry["custom_id"])
                for number, entry in enumerate(requests, 1)
            ],
            expires_at_ms=now_ms + WINDOW_MS,
            keep_until_ms=now_ms + KEPT_MS,
            metadata=body.get("metadata", {}),
            context=orjson.dumps({"url": url}),
        )
        try:
            made = await self._jobs.create(caller, job)
        except RateLimitExceeded as error:
            raise BatchLimitExceeded(error.message) from error
        return _view(made, [])

    async def view(self, caller: KeyPrincipal, batch_id: str) -> Json:
        """The batch, with its results where it is over. Raises NotFound."""
        job = await self._jobs.get(caller, "batch", batch_id)
        over = job.state in OVER
        return _view(job, await self._jobs.items(caller, "batch", batch_id) if over else [])

    async def cancel(self, caller: KeyPrincipal, batch_id: str) -> Json:
        """The batch as it is afterwards. Raises NotFound."""
        return _view(await self._jobs.cancel(caller, "batch", batch_id), [])

    async def page(self, caller: KeyPrincipal, *, after: str, limit: int) -> Json:
        """Newest first, without results. Raises NotFound where `after` is none of them."""
        jobs, more = await self._jobs.page(caller, "batch", after=after, limit=limit)
        return page_of([_view(job, []) for job in jobs], has_more=more)


def _checked(body: Json, default_model: str) -> tuple[str, str, list[Json]]:
    faults = Faults()
    if "requests" not in body:
        faults.add(("body", "requests"), "missing", "Field required")
    for name, rule in _FIELDS.items():
        if name in body:
            rule(faults, ("body", name), body[name])
    faults.raise_if_any()
    requests: list[Json] = body["requests"]
    urls = {entry.get("url") or CHAT for entry in requests}
    if len(urls) > 1:
        raise InvalidArgument.of("requests", "all requests of a batch have one url")
    seen: set[str] = set()
    for place, entry in enumerate(requests):
        if entry["custom_id"] in seen:
            raise InvalidArgument.of(f"requests.{place}.custom_id", "is used twice")
        seen.add(entry["custom_id"])
        if entry["body"].get("stream"):
            raise InvalidArgument.of(f"requests.{place}.body.stream", "a batch does not stream")
    models = {entry["body"].get("model") or default_model for entry in requests}
    if len(models) > 1:
        named = ", ".join(sorted(map(str, models)))
        raise MixedModels(f"requests: all requests of a batch have one model, not {named}")
    model = models.pop()
    if not isinstance(model, str) or not model:
        raise InvalidArgument.of(
            "requests.0.body.model", "Field required: no model in request or key"
        )
    return urls.pop(), model, requests


def _view(job: Job, items: list[Item]) -> Json:
    over = job.state in OVER
    results = [_result(item) for item in items if item.http_status] if over else None
    failed = [item for item in items if item.http_status and item.http_status != 200]
    return {
        "id": job.job_id,
        "object": "batch",
        "endpoint": orjson.loads(job.context)["url"],
        "status": job.state,
        "model": job.model,
        "created_at": job.created_at_ms // 1000,
        "completed_at": job.completed_at_ms // 1000 or None,
        "expires_at": job.expires_at_ms // 1000,
        "completion_window": "24h",
        "request_counts": {
            "total": job.total,
            "completed": job.completed,
            "failed": job.failed,
        },
        "metadata": dict(job.metadata) or None,
        "input_file_id": None,
        "output_file_id": None,
        "error_file_id": None,
        "usage_synced": over,
        "results": results or None,
        "errors_detail": [{"custom_id": i.custom_id, **error_of(i)} for i in failed] or None,
    }


def _result(item: Item) -> Json:
    answered: Any = None  # Any: JSON
    try:
        answered = orjson.loads(item.answer)
    except orjson.JSONDecodeError:
        answered = {"error": error_of(item)}
    shown: Json = {
        "custom_id": item.custom_id,
        "response": {
            "status_code": item.http_status,
            "request_id": item.request_id,
            "body": answered,
        },
    }
    if item.http_status != 200:
        shown["error"] = error_of(item)
    return shown
