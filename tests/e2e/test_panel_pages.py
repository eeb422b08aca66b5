"""Billing and Logs in headless Chromium: the one stream, drill-down, search, files, versions."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from tests.e2e.chromium import seen_by
from tests.e2e.stack import Stack

DAY_MS = 86_400_000


def query(address: str) -> dict[str, str]:
    """What an address of the log filters by; the router writes texts as JSON where it must."""
    found = parse_qs(urlsplit(address).query)
    return {name: values[0].strip('"') for name, values in found.items()}


async def test_spending_leads_to_its_requests_over_one_stream_and_what_was_said_is_found(
    stack: Stack,
) -> None:
    demo = stack.demo
    request = {
        "url": demo["MESH_DASHBOARD_URL"],
        "email": demo["MESH_DEMO_EMAIL"],
        "password": demo["MESH_DEMO_PASSWORD"],
        "apiUrl": demo["MESH_BASE_URL"],
    }
    seen = await seen_by("panel_pages.mjs", request, within_s=240)
    assert seen["problems"] == []
    assert seen["barriers"] == []
    # Overview, Logs, Billing, Logs, out of sight and back: never two at once.
    assert (seen["opened"]["most"], seen["opened"]["open"]) == (1, 1)
    made = seen["opened"]["made"]
    assert any("topic=live" in one for one in made)
    assert any("topic=requests" in one for one in made)
    assert all(one.startswith("/api/events?topic=balance") for one in made)
    assert seen["testModes"] == 1
    by_bar, by_day, by_row = (query(seen[name]) for name in ("byBar", "byDay", "byRow"))
    assert by_bar["key_id"] == seen["keyId"]
    assert seen["barRows"] == 2
    assert int(by_day["until_ms"]) - int(by_day["since_ms"]) == DAY_MS
    assert seen["today"] != seen["yesterday"]
    assert all(moment.startswith("20") for moment in seen["between"])
    assert query(seen["byName"]) == {"key_id": seen["keyId"]}
    assert by_row["key_id"] == seen["keyId"]
    assert (by_row["model"], by_row["provider"]) == ("local/smollm2-135m", "local")
    assert (by_row["since_ms"], by_row["until_ms"]) == (by_day["since_ms"], by_day["until_ms"])
    assert seen["totals"].startswith("1 request, ")
    # A filter that is folded away is seen where the address has it.
    assert len(seen["traceField"]) == 32
    assert seen["unseen"] in seen["file"]
    assert seen["first"] not in seen["file"]
    assert 'onerror="alert(1)"' in seen["found"]
    assert "words=" in seen["searched"]
    assert seen["first"] in seen["shown"]
    assert "In the gateway" in seen["timeline"]
    assert "until the first token" in seen["timeline"]
    assert len(seen["sides"]) == 2
