"""Stored prompts and answers in the panel: for owners and admins, and gone when they say so."""

from __future__ import annotations

from services.usage.adapters.clickhouse import ClickHouse
from services.usage.adapters.sink_store_clickhouse import ClickHouseSinkStore
from services.usage.ports import CONTENTS
from tests.integration.dashboard.conftest import Browser, Panel
from tests.integration.dashboard.test_isolation import content_row


async def test_owners_and_admins_read_and_erase_and_others_do_not(
    ada: Browser, panel: Panel, chdb_dsn: str
) -> None:
    account_id = ada.session["account_id"]
    log = ClickHouse(chdb_dsn, database="test_dashboard")
    await log.open()
    stored = content_row(f"use_{account_id}", account_id, "What is it?")
    await ClickHouseSinkStore(log, CONTENTS).insert_missing([stored])
    await log.close()
    path = f"/api/requests/{stored.usage_id}/content"
    expected = {
        "prompt": "What is it?",
        "answer": "An answer",
        "prompt_truncated": False,
        "answer_truncated": True,
    }
    assert (await ada.call("GET", path)).json == expected
    admin = await panel.add_member(ada, "admin")
    assert (await admin.call("GET", path)).json == expected
    for role in ("developer", "viewer"):
        other = await panel.add_member(ada, role)
        assert (await other.call("GET", path)).status == 403
        assert (await other.call("DELETE", "/api/contents")).status == 403
    erased = await admin.call("DELETE", "/api/contents")
    assert (erased.status, erased.json["erased"]) == (200, 1)
    assert (await ada.call("GET", path)).status == 404


async def test_a_key_says_whether_its_prompts_are_stored_and_a_change_leaves_it(
    ada: Browser,
) -> None:
    key = (await ada.create_key())["key"]
    assert key["content_stored"] is False
    path = f"/api/keys/{key['key_id']}"
    assert (await ada.call("PATCH", path, {"content_stored": True})).json["content_stored"] is True
    assert (await ada.call("PATCH", path, {"label": "new"})).json["content_stored"] is True
