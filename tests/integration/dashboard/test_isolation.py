"""Every route of the panel, walked by a stranger who knows the ids of somebody else's things."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.domain.content_row import ContentRow
from services.usage.ports import CONTENTS, REQUESTS
from tests.integration.dashboard.conftest import Browser, Panel
from tests.integration.dashboard.test_session import ROUTES
from tests.integration.dashboard.test_templates import BODY as TEMPLATE
from tests.unit.usage.builders import START_MS, row

MARK = "nobody-else-may-read-this"
# What stands in an address and belongs to nobody. A new name in a route's path has to be put here
# or among the belongings; otherwise the walk fails.
OF_NOBODY = {
    "version": "1", "month": "2026-01", "form": "csv", "kind": "balance_low",
    # Of the installation; `test_operators.py` walks what staff may do.
    "provider_id": "local", "credential_id": "default", "grant_id": "grt_1",
    "keeper": "billing", "position": "0",
}  # fmt: skip
# What is asked of the routes that want to be told, so that there is an answer that could show
# something.
QUERIES = {
    "/events": "topic=balance&topic=live&topic=requests",
    "/contents": f"words={MARK}",
}
# Bodies that the routes with ids take, so that it is the id that is refused.
BODIES: dict[tuple[str, str], dict[str, Any]] = {  # Any: JSON
    ("PATCH", "/keys/{key_id}"): {"label": "taken"},
    ("PATCH", "/members/{user_id}"): {"role": "viewer"},
    ("PUT", "/templates/{template_id}"): TEMPLATE,
    ("PATCH", "/teams/{team_id}"): {"name": "taken"},
}
WITH_ID = [
    (method, path)
    for method, path in ROUTES
    if set(re.findall(r"\{(\w+)\}", path)) - OF_NOBODY.keys()
]
# Logging out ends the walk, so it comes last.
WITHOUT_ID = sorted(set(ROUTES) - set(WITH_ID), key=lambda route: route == ("DELETE", "/session"))


@dataclass(frozen=True, slots=True)
class Belongings:
    """What an account has that a route can name, by the name it has in the path."""

    ids: dict[str, str]
    # All that only this account may read.
    secrets: frozenset[str]

    def address(self, path: str) -> str:
        known = self.ids | OF_NOBODY
        return "/api" + re.sub(r"\{(\w+)\}", lambda name: known[name[1]], path)

    def shown_in(self, body: bytes) -> list[str]:
        return sorted(secret for secret in self.secrets if secret.encode() in body)


def content_row(usage_id: str, account_id: str, prompt: str) -> ContentRow:
    """A prompt with an answer that the sink has stored."""
    return ContentRow(
        account_id=account_id,
        received_at=START_MS,
        usage_id=usage_id,
        request_id="",
        key_id="",
        model_id="local/smol",
        prompt=prompt,
        answer="An answer",
        prompt_truncated=False,
        answer_truncated=True,
        event_id="evt_1",
        log_topic="",
        log_partition=0,
        log_offset=0,
    )


async def furnish(owner: Browser, panel: Panel, chdb_dsn: str) -> Belongings:
    """One of everything for the owner's account."""
    key = (await owner.create_key(f"key {MARK}"))["key"]
    made = await owner.call("POST", "/api/templates", {**TEMPLATE, "name": f"template {MARK}"})
    await panel.add_member(owner, "admin")
    [member] = [
        one
        for one in (await owner.call("GET", "/api/members")).json
        if one["email"] != owner.session["email"]
    ]
    [session] = (await owner.call("GET", "/api/sessions")).json
    team = await owner.call("POST", "/api/teams", {"name": f"team {MARK}"})
    guest = {"email": f"guest-{MARK}@example.com", "role": "viewer"}
    invited = await owner.call("POST", "/api/invitations", guest)
    assert invited.status == 201, invited.body
    hook = await owner.call("POST", "/api/webhooks", {"url": f"https://example.com/{MARK}"})
    assert (team.status, hook.status) == (201, 201), (team.body, hook.body)
    joined = f"/api/teams/{team.json['team_id']}/members/{member['user_id']}"
    assert (await owner.call("PUT", joined)).status == 200
    await panel.credit(owner, 5_000_000_000, f"credit {MARK}")
    log = ClickHouse(chdb_dsn, database="test_dashboard")
    await log.open()
    request = row(
        901,
        account_id=owner.session["account_id"],
        key_id=key["key_id"],
        usage_id=f"usage-of-{owner.session['account_id']}",
        tags={"team": MARK},
        session_id=f"session {MARK}",
    )
    await ClickHouseSinkStore(log, REQUESTS).insert_missing([request])
    content = content_row(request.usage_id, request.account_id, f"What is {MARK}?")
    await ClickHouseSinkStore(log, CONTENTS).insert_missing([content])
    await log.close()
    ids = {
        "key_id": key["key_id"],
        "template_id": made.json["template_id"],
        "user_id": member["user_id"],
        "session_id": session["session_id"],
        "request_id": request.usage_id,
        "team_id": team.json["team_id"],
        "invitation_id": invited.json["invitation"]["invitation_id"],
        "account_id": owner.session["account_id"],
        "payment_id": f"pi_{MARK}",
        "endpoint_id": (await owner.call("GET", "/api/webhooks")).json[0]["endpoint_id"],
    }
    secrets = {MARK, owner.session["account_id"], owner.session["email"], member["email"]}
    return Belongings(ids, frozenset(secrets | set(ids.values())))


SEARCH = f"/contents?{QUERIES['/contents']}"
READS = [
    "/keys", "/templates", "/templates/{template_id}", "/templates/{template_id}/versions",
    "/members", "/sessions", "/audit", "/balance", "/transactions", "/requests",
    "/requests/{request_id}", "/requests/{request_id}/content", SEARCH,
    "/refill", "/summary", "/keys/{key_id}/usage",
    "/teams", "/webhooks", "/alert-rules", "/alerts", "/webhook-deliveries",
    "/invitations", "/accounts", "/payments", "/payment-history",
]  # fmt: skip


async def everything_of(owner: Browser, has: Belongings) -> dict[str, Any]:  # Any: JSON
    """All that the owner sees, which must be there for a stranger's failure to mean anything."""
    seen = {}
    for path in READS:
        answer = await owner.call("GET", has.address(path))
        assert answer.status == 200, (path, answer.body)
        seen[path] = answer.json
    return seen


async def beginning(browser: Browser, address: str) -> bytes:
    """What a stream says at once."""
    said = b""
    async with browser.client.get(browser.url + address) as answer:
        assert isinstance(answer, aiohttp.ClientResponse)
        async with asyncio.timeout(10):
            while not all(b"event: %s\n" % topic in said for topic in (b"balance", b"live")):
                said += await answer.content.readany()
    return said


@pytest.mark.parametrize("role", ["owner of another account", "nobody"])
async def test_a_stranger_with_the_ids_of_an_account_sees_and_changes_nothing_of_it(
    role: str, ada: Browser, panel: Panel, chdb_dsn: str
) -> None:
    has = await furnish(ada, panel, chdb_dsn)
    before = await everything_of(ada, has)
    assert MARK in str(before["/requests"])
    assert before[SEARCH]["hits"]
    eve = await panel.browser()
    if role != "nobody":
        await eve.sign_up(name="Eve")
    for method, path in WITH_ID:
        answer = await eve.call(method, has.address(path), BODIES.get((method, path)))
        expected = 401 if role == "nobody" else 404
        assert answer.status == expected, (method, path, answer.body)
        # A refusal may repeat the id that it was asked for, and nothing else.
        asked = {secret for secret in has.secrets if secret in has.address(path)}
        assert set(has.shown_in(answer.body)) <= asked, (method, path)
    for method, path in WITHOUT_ID:
        address = has.address(path) + (f"?{QUERIES[path]}" if path in QUERIES else "")
        if path == "/events" and role != "nobody":
            assert has.shown_in(await beginning(eve, address)) == [], path
            continue
        # An id in a query or a header must not stand for the session either.
        named = {"x-account-id": ada.session["account_id"], "x-mesh-account": has.ids["key_id"]}
        body = None if method == "GET" else {"account_id": ada.session["account_id"]}
        answer = await eve.call(method, address, body, **named)
        assert answer.status != 500, (method, path, answer.body)
        shown = has.shown_in(answer.body)
        assert shown == [], (method, path, shown)
    assert await everything_of(ada, has) == before


async def test_filters_with_the_ids_of_another_account_find_nothing(
    ada: Browser, panel: Panel, chdb_dsn: str
) -> None:
    has = await furnish(ada, panel, chdb_dsn)
    eve = await panel.browser()
    await eve.sign_up(name="Eve")
    for query in (f"key_id={has.ids['key_id']}", f"tag=team:{MARK}"):
        for path in ("/requests", "/summary"):
            address = f"/api{path}?{query}"
            hers = await ada.call("GET", address)
            assert hers.json.get("requests") or hers.json["total"]["requests"], hers.body
            answer = await eve.call("GET", address)
            assert answer.status == 200, answer.body
            assert not answer.json.get("requests")
            assert not answer.json.get("total", {}).get("requests")
            assert has.shown_in(answer.body) == []


def test_no_route_names_a_thing_that_the_walk_does_not_own() -> None:
    names = {name for _, path in ROUTES for name in re.findall(r"\{(\w+)\}", path)}
    owned = {
        "key_id", "template_id", "user_id", "session_id", "request_id", "team_id", "endpoint_id",
        "invitation_id", "account_id", "payment_id",
    }  # fmt: skip
    assert names - OF_NOBODY.keys() == owned
    assert set(WITH_ID).isdisjoint(WITHOUT_ID)
    assert {("GET", path.partition("?")[0]) for path in READS} <= set(ROUTES)
