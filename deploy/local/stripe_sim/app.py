"""The simulator as a process: the API, the pages, and the deliveries of its notices.

`python -m deploy.local.stripe_sim --port 8400 --webhook URL --state FILE`; its signing secret is
MESH_BILLING_STRIPE_WEBHOOK_SECRET.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from deploy.local.layout import write_private
from deploy.local.stripe_sim import api
from deploy.local.stripe_sim.pages import routes
from deploy.local.stripe_sim.world import World

TURN_S = 0.05
DELIVERY_TIMEOUT_S = 10.0
BODY_BYTES_MAX = 256 * 1024
WORLD = web.AppKey("world", World)


def make_app(world: World, *, webhook: str, state: Path | None = None) -> web.Application:
    """The application over a world; notices go to `webhook`."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[WORLD] = world
    app.router.add_route("*", "/v1/{path:.*}", _call)
    app.router.add_get("/healthz", _healthz)
    app.router.add_routes(routes(world))

    async def background(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_turns(world, webhook, state))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        keep(world, state)

    app.cleanup_ctx.append(background)
    return app


def system_now_ms() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000


def keep(world: World, state: Path | None) -> None:
    """Writes the state to its file."""
    if state is not None:
        write_private(state, world.dump())


async def _healthz(request: web.Request) -> web.Response:
    del request
    return web.json_response({"alive": True, "mode": "TEST MODE"})


async def _call(request: web.Request) -> web.StreamResponse:
    text = request.query_string if request.method == "GET" else (await request.read()).decode()
    world = request.app[WORLD]
    answer = api.handle(
        world, request.method, request.path, text=text, headers=dict(request.headers)
    )
    if answer.lost:
        # As a line that broke: the caller gets nothing.
        if request.transport is not None:
            request.transport.abort()
        raise web.HTTPServiceUnavailable
    return web.json_response(
        answer.body,
        status=answer.status,
        headers={"Request-Id": world.new_id("req"), "X-Mesh-Simulator": "TEST MODE"},
        dumps=json.dumps,
    )


async def _turns(world: World, webhook: str, state: Path | None) -> None:
    """Lets time do its work, sends what is due, keeps what changed."""
    kept = world.changes
    timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
        while True:
            api.tick(world)
            for event_id, attempt in world.deliveries_due():
                group.create_task(_deliver(session, world, webhook, event_id=event_id, n=attempt))
            if world.changes != kept:
                kept = world.changes
                await asyncio.to_thread(keep, world, state)
            await asyncio.sleep(TURN_S)


async def _deliver(
    session: aiohttp.ClientSession, world: World, webhook: str, *, event_id: str, n: int
) -> None:
    payload = world.payload(event_id)
    headers = {
        "Stripe-Signature": world.signature(payload),
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Mesh-Stripe-Simulator (TEST MODE)",
    }
    try:
        async with session.post(webhook, data=payload, headers=headers) as answer:
            taken = 200 <= answer.status < 300
    except (aiohttp.ClientError, TimeoutError):
        taken = False
    world.delivery_ended(event_id, n, taken=taken)
