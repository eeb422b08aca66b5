"""What the account does now: figures of the last minute, pushed once a second while they change,
and how each model answers.

Latencies of buckets cannot be added up, so they are those of the newest minute of the clock that
had requests; everything else is of the sixty seconds before now.
"""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter
from pydantic import BaseModel

from services.common.money import usd_from_nanousd
from services.common.pb.mesh.usage.v1 import live_pb2, live_pb2_grpc
from services.dashboard.api.session import BackendsDep, Session, SessionDep
from services.dashboard.api.sse import STREAM_LIFE_S, Messages
from services.dashboard.ports import Backends

router = APIRouter(tags=["live"])
WINDOW_S = 60
MODELS_WINDOW_S = 1_800


class LiveOut(BaseModel):
    """The last minute."""

    requests: int
    errors: int
    requests_per_s: float
    tokens_per_s: float
    # What an hour would cost that goes on like this minute.
    spend_usd_per_hour: str
    # 0 where there were no requests.
    latency_p50_ms: int
    latency_p95_ms: int


class LiveModelOut(BaseModel):
    """A model in the last half hour; the latencies are of its newest minute."""

    model_id: str
    requests: int
    errors: int
    latency_p50_ms: int
    latency_p95_ms: int


def stub_of(backends: Backends) -> live_pb2_grpc.LiveServiceAsyncStub:
    stub: live_pb2_grpc.LiveServiceAsyncStub = live_pb2_grpc.LiveServiceStub(
        backends.usage_live_channel.channel()
    )
    return stub


class Minute:
    """The buckets of the last minute, kept current by what a stream says has changed."""

    def __init__(self) -> None:
        self._buckets: dict[int, live_pb2.LiveBucket] = {}

    def take(self, answer: live_pb2.LiveWindows) -> None:
        if answer.whole:
            self._buckets.clear()
        for series in answer.series:
            self._buckets.update({one.start_ms: one for one in series.buckets})
        oldest_ms = answer.now_ms - WINDOW_S * 1000
        self._buckets = {at: one for at, one in self._buckets.items() if at > oldest_ms}

    def figures(self, newest: live_pb2.LiveBucket) -> LiveOut:
        """The sums, with the latencies of the newest minute."""
        buckets = self._buckets.values()
        requests = sum(one.requests for one in buckets)
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in buckets)
        cost_nanousd = sum(one.cost_nanousd for one in buckets)
        return LiveOut(
            requests=requests,
            errors=sum(one.errors for one in buckets),
            requests_per_s=round(requests / WINDOW_S, 2),
            tokens_per_s=round(tokens / WINDOW_S, 1),
            spend_usd_per_hour=usd_from_nanousd(cost_nanousd * (3_600 // WINDOW_S)),
            latency_p50_ms=newest.latency_p50_ms if requests else 0,
            latency_p95_ms=newest.latency_p95_ms if requests else 0,
        )


def newest_of(series: live_pb2.LiveSeries) -> live_pb2.LiveBucket:
    return series.buckets[-1] if series.buckets else live_pb2.LiveBucket()


async def live_figures(backends: Backends, session: Session) -> Messages:
    """The last minute now and whenever it changes. Raises Unavailable where it is away."""
    minute = Minute()
    said: LiveOut | None = None
    answers = backends.usage_live_channel.stream(
        stub_of(backends).WatchLive,
        live_pb2.GetLiveRequest(resolution_s=1, window_s=WINDOW_S, newest_minute=True),
        principal=session.caller,
        timeout_s=STREAM_LIFE_S * 2,
    )
    async with aclosing(answers):
        async for answer in answers:
            minute.take(answer)
            now = minute.figures(answer.newest_minute)
            if now != said:
                said = now
                yield now


@router.get("/live/models")
async def live_models(session: SessionDep, backends: BackendsDep) -> list[LiveModelOut]:
    """How each model answered the account in the last half hour."""
    answer = await backends.usage_live_channel.call(
        stub_of(backends).GetLive,
        live_pb2.GetLiveRequest(resolution_s=60, window_s=MODELS_WINDOW_S, group_by="model"),
        principal=session.caller,
    )
    return [
        LiveModelOut(
            model_id=series.value,
            requests=sum(one.requests for one in series.buckets),
            errors=sum(one.errors for one in series.buckets),
            latency_p50_ms=newest_of(series).latency_p50_ms,
            latency_p95_ms=newest_of(series).latency_p95_ms,
        )
        for series in answer.series
    ]
