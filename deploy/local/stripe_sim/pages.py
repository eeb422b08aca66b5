"""The pages of the simulator: a checkout that a person can pay, the bank's question, an overview.

TEST MODE is on every page. No page takes any other card than a test card.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.local.stripe_sim import checkout, reversals
from deploy.local.stripe_sim.cards import CARDS
from deploy.local.stripe_sim.world import ApiError, Object, World

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
SHOWN = 50
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page(name: str, *, status: int = 200, **facts: Any) -> web.Response:  # Any: of the template
    """A page by its template."""
    text = _TEMPLATES.get_template(name).render(**facts)
    return web.Response(text=text, content_type="text/html", status=status, headers=_HEADERS)


def dollars(cents: int) -> str:
    """An amount as it is shown."""
    return f"${cents / 100:,.2f}"


_TEMPLATES.filters["dollars"] = dollars


def _checkout_page(session: Object, *, error: str = "", status: int = 200) -> web.Response:
    return page(
        "checkout.html.j2", status=status, session=session, error=error, cards=CARDS.values()
    )


def routes(world: World) -> list[web.RouteDef]:
    """Every page."""

    def found(request: web.Request) -> Object:
        try:
            return world.find("checkout.session", request.match_info["session_id"])
        except ApiError as error:
            raise web.HTTPNotFound(text="There is no such page.") from error

    async def show(request: web.Request) -> web.StreamResponse:
        session = found(request)
        if session["status"] != "open":
            return page("ended.html.j2", session=session)
        return _checkout_page(session)

    async def pay(request: web.Request) -> web.StreamResponse:
        session, form = found(request), await request.post()
        number = str(form.get("number", "")).replace(" ", "")
        bank = str(form.get("bank", "")) if form.get("way") == "bank" else ""
        try:
            intent = checkout.pay(world, session, number=number, bank=bank)
        except ApiError as error:
            world.changes += 1
            return _checkout_page(session, error=error.body["error"]["message"], status=402)
        return _onwards(session, intent)

    def _onwards(session: Object, intent: Object) -> web.Response:
        world.changes += 1
        place = session["success_url"]
        if intent["status"] == "requires_action":
            place = f"/question/{session['id']}"
        return web.Response(status=303, headers={"Location": place, **_HEADERS})

    async def question(request: web.Request) -> web.StreamResponse:
        return page("question.html.j2", session=found(request))

    async def answer(request: web.Request) -> web.StreamResponse:
        session, form = found(request), await request.post()
        try:
            passed = form.get("answer") == "complete"
            intent = checkout.answer_question(world, session, passed=passed)
        except ApiError as error:
            return _checkout_page(session, error=error.body["error"]["message"], status=402)
        return _onwards(session, intent)

    return [
        web.get("/pay/{session_id}", show),
        web.post("/pay/{session_id}", pay),
        web.get("/question/{session_id}", question),
        web.post("/question/{session_id}", answer),
        web.get("/receipt/{charge_id}", _receipt(world)),
        web.get("/", _overview(world)),
        web.post("/act/{action}/{key}", _act(world)),
    ]


def _receipt(world: World) -> Handler:
    """What a person would get by mail."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            charge = world.find("charge", request.match_info["charge_id"])
        except ApiError as error:
            raise web.HTTPNotFound(text="There is no such receipt.") from error
        [kind] = charge["payment_method_details"]
        last4 = charge["payment_method_details"][kind]["last4"]
        return page("receipt.html.j2", charge=charge, last4=last4)

    return handler


def _overview(world: World) -> Handler:
    """What was paid, with what can happen to it afterwards."""

    async def handler(request: web.Request) -> web.StreamResponse:
        del request
        disputes = {one["charge"]: one for one in world.where("dispute")}
        charges = [(one, disputes.get(one["id"])) for one in world.where("charge")[:SHOWN]]
        return page("overview.html.j2", charges=charges)

    return handler


def _act(world: World) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        action, key = request.match_info["action"], request.match_info["key"]
        try:
            match action:
                case "refund":
                    reversals.create_refund(world, {"payment_intent": key})
                case "dispute":
                    reversals.open_dispute(world, world.find("charge", key))
                case "win" | "lose":
                    dispute = world.find("dispute", key)
                    reversals.end_dispute(world, dispute, won=action == "win")
                case _:
                    raise web.HTTPNotFound(text="There is no such action.")
        except ApiError as error:
            raise web.HTTPConflict(text=error.body["error"]["message"]) from error
        return web.Response(status=303, headers={"Location": "/", **_HEADERS})

    return handler
