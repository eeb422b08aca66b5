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


async def test_a_search_says_where_the_words_stand_and_a_developer_may_not_ask(
    ada: Browser, panel: Panel, chdb_dsn: str
) -> None:
    account_id = ada.session["account_id"]
    log = ClickHouse(chdb_dsn, database="test_dashboard")
    await log.open()
    prompt = "[user]\n<b>Zebras</b> and <script>alert(1)</script> horses?"
    rows = [
        content_row(f"use_z_{account_id}", account_id, prompt),
        content_row(f"use_h_{account_id}", account_id, "Horses alone."),
    ]
    await ClickHouseSinkStore(log, CONTENTS).insert_missing(rows)
    await log.close()
    found = (await ada.call("GET", "/api/contents?words=zebras%20horses")).json
    [hit] = found["hits"]
    assert (hit["usage_id"], found["next_page_token"]) == (f"use_z_{account_id}", "")
    assert "".join(part["text"] for part in hit["prompt"]) == " ".join(prompt.split())
    marked = [part["text"] for part in hit["prompt"] if part["marked"]]
    assert marked == ["Zebras", "horses"]
    assert [part["marked"] for part in hit["answer"]] == [False]
    both = (await ada.call("GET", "/api/contents?words=HORSES")).json["hits"]
    assert len(both) == 2
    late = await ada.call("GET", f"/api/contents?words=horses&since_ms={4_000_000_000_000}")
    assert late.json["hits"] == []
    for query in ("words=!", f"words={'a' * 201}", ""):
        refused = await ada.call("GET", f"/api/contents?{query}")
        assert refused.status in (400, 422)
        assert "words" in refused.json["error"]["message"]
    for role in ("developer", "viewer"):
        other = await panel.add_member(ada, role)
        assert (await other.call("GET", "/api/contents?words=horses")).status == 403
