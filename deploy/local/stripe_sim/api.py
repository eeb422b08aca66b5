"""The API by its paths: keys that make calls idempotent, lists, expansion, faults."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.local.stripe_sim import checkout, intents, reversals
from deploy.local.stripe_sim.forms import Params, params_from_text, whole
from deploy.local.stripe_sim.world import KEY_LIFE_MS, ApiError, Object, World, bad

Handler = Callable[[World, str, Params], Object]
LIST_MAX = 100
_KINDS = {
    "customers": "customer",
    "payment_methods": "payment_method",
    "payment_intents": "payment_intent",
    "setup_intents": "setup_intent",
    "charges": "charge",
    "checkout/sessions": "checkout.session",
    "refunds": "refund",
    "disputes": "dispute",
    "events": "event",
    "balance_transactions": "balance_transaction",
}
_PATH = re.compile(r"/v1/(checkout/sessions|[a-z_]+)(?:/([^/]+))?(?:/([a-z_]+))?/?")
_FILTERS = ("customer", "payment_intent", "charge", "type", "source")
_EXPANDED = {
    "latest_charge": "charge",
    "payment_method": "payment_method",
    "payment_intent": "payment_intent",
    "customer": "customer",
    "balance_transaction": "balance_transaction",
}
_PREFIXES = {"ch": "charge", "re": "refund", "dp": "dispute"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body; `lost` where the caller never gets it."""

    status: int
    body: Object
    lost: bool = False


def handle(
    world: World, method: str, path: str, *, text: str, headers: Mapping[str, str]
) -> Answer:
    """One call; `text` is its query or its form. What is due by itself happens before."""
    tick(world)
    named = {name.lower(): value for name, value in headers.items()}
    if not named.get("authorization", "").startswith("Bearer sk_test_"):
        kind = "invalid_request_error"
        return Answer(401, ApiError(401, kind, "TEST MODE: use a test key.").body)
    fault = world.plan.fault(world.rng)
    if fault == "lost_before":
        return Answer(0, {}, lost=True)
    key = named.get("idempotency-key", "") if method == "POST" else ""
    print_ = hashlib.sha256(f"{method} {path} {text}".encode()).hexdigest()
    known = world.keys.get(key)
    if known is not None and world.now_ms() - known["at_ms"] < KEY_LIFE_MS:
        if known["print"] != print_:
            message = "Keys for idempotent requests can only be used with the same parameters."
            return Answer(400, ApiError(400, "idempotency_error", message).body)
        return Answer(known["status"], known["body"], lost=fault == "lost_after")
    if fault == "500_before":
        answer = Answer(500, ApiError(500, "api_error", "Something went wrong.").body)
    else:
        answer = _answer(world, method, path, params=params_from_text(text))
        if fault == "500_after":
            answer = Answer(500, ApiError(500, "api_error", "Something went wrong.").body)
    if key and answer.status not in (400, 404):
        body = json.loads(json.dumps(answer.body))
        world.keys[key] = {
            "print": print_, "status": answer.status, "body": body, "at_ms": world.now_ms(),
        }  # fmt: skip
    return Answer(answer.status, answer.body, lost=fault == "lost_after")


def tick(world: World) -> None:
    """Lets happen what is due by itself."""
    for what, key in world.take_due():
        world.changes += 1
        if what == "bank":
            intent = world.find("payment_intent", key)
            paid = intents.bank_answered(world, intent)
            checkout.bank_paid(world, intent, succeeded=paid)
        elif what == "dispute":
            reversals.open_dispute(world, world.find("charge", key))
        elif what == "expire":
            session = world.find("checkout.session", key)
            if session["status"] == "open":
                checkout.expire_session(world, session)


def _answer(world: World, method: str, path: str, *, params: Params) -> Answer:
    try:
        return Answer(200, expanded(world, _result(world, method, path, params=params), params))
    except ApiError as error:
        return Answer(error.status, error.body)


def _result(world: World, method: str, path: str, *, params: Params) -> Object:
    found = _PATH.fullmatch(path)
    if found is None or found[1] not in _KINDS:
        raise ApiError(404, "invalid_request_error", f"Unrecognized request URL ({path}).")
    name, key, action = found.groups()
    if method == "GET":
        return world.find(_KINDS[name], key) if key else _listed(world, name, params)
    handler = _WRITES.get((name, action or ("" if key is None else "update")))
    if method != "POST" or handler is None:
        raise ApiError(404, "invalid_request_error", f"Unrecognized request URL ({path}).")
    world.changes += 1
    return handler(world, key or "", params)


def _listed(world: World, name: str, params: Params) -> Object:
    kind = _KINDS[name]
    wanted = {one: params.get(one, "") for one in _FILTERS if params.get(one)}
    rows = world.where(kind, **wanted)
    created = params.get("created")
    if isinstance(created, dict):
        rows = [
            row
            for row in rows
            if whole(created.get("gte"), 0) <= row["created"]
            and row["created"] < whole(created.get("lt"), 2**53)
        ]
    if kind == "event" and "delivery_success" in params:
        succeeded = params["delivery_success"] == "true"
        rows = [row for row in rows if world.delivered[row["id"]] is succeeded]
    after = params.get("starting_after")
    if after:
        ids = [row["id"] for row in rows]
        if after not in ids:
            raise bad(f"No such {kind}: '{after}'", code="resource_missing")
        rows = rows[ids.index(after) + 1 :]
    limit = min(whole(params.get("limit"), 10), LIST_MAX)
    return {
        "object": "list",
        "url": f"/v1/{name}",
        "has_more": len(rows) > limit,
        "data": rows[:limit],
    }


def expanded(world: World, result: Object, params: Params) -> Object:
    """A copy of the answer in which what was asked for stands in the place of its id."""
    copy: Object = json.loads(json.dumps(result))
    for path in params.get("expand") or []:
        rows = copy["data"] if path.startswith("data.") else [copy]
        name = path.removeprefix("data.")
        for row in rows:
            key = row.get(name)
            if isinstance(key, str):
                kind = _EXPANDED.get(name) or _PREFIXES[key.split("_")[0]]
                row[name] = json.loads(json.dumps(world.find(kind, key)))
    return copy


def _evidence(world: World, key: str, params: Params) -> Object:
    """The test texts of the API decide a dispute at once."""
    dispute = world.find("dispute", key)
    text = (params.get("evidence") or {}).get("uncategorized_text", "")
    if text in ("winning_evidence", "losing_evidence"):
        return reversals.end_dispute(world, dispute, won=text == "winning_evidence")
    return dispute


def _attached(world: World, key: str, params: Params) -> Object:
    method = intents.payment_method(world, key)
    method["customer"] = world.find("customer", params.get("customer") or "")["id"]
    return method


_WRITES: dict[tuple[str, str], Handler] = {
    ("customers", ""): lambda w, _, p: intents.create_customer(w, p),
    ("customers", "update"): lambda w, k, p: intents.update_customer(w, w.find("customer", k), p),
    ("payment_methods", "attach"): _attached,
    ("payment_intents", ""): lambda w, _, p: intents.create_intent(w, p),
    ("payment_intents", "confirm"): lambda w, k, p: intents.confirm_intent(
        w, w.find("payment_intent", k), p
    ),
    ("payment_intents", "cancel"): lambda w, k, _: intents.cancel_intent(
        w, w.find("payment_intent", k)
    ),
    ("setup_intents", ""): lambda w, _, p: intents.create_setup(w, p),
    ("setup_intents", "confirm"): lambda w, k, p: intents.confirm_setup(
        w, w.find("setup_intent", k), p
    ),
    ("checkout/sessions", ""): lambda w, _, p: checkout.create_session(w, p),
    ("checkout/sessions", "expire"): lambda w, k, _: checkout.expire_session(
        w, w.find("checkout.session", k)
    ),
    ("refunds", ""): lambda w, _, p: reversals.create_refund(w, p),
    ("disputes", "update"): _evidence,
    ("disputes", "close"): lambda w, k, _: reversals.end_dispute(
        w, w.find("dispute", k), won=False
    ),
}
