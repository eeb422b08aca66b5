"""What staff see of the event log: dead letters and how far the consumers are."""

from __future__ import annotations

import json
from collections.abc import Callable

from services.common.clock import SystemClock
from services.common.events import record_of
from services.common.kafka import DeadLetters, LogMessage
from services.common.kafka.memory import MemoryProducer, MemorySource
from services.common.pb.mesh.events.v1 import usage_pb2
from services.common.topics import BALANCES, BILLING_DEAD, KEYS, LEDGER, USAGE, USAGE_DEAD
from services.dashboard.config import DashboardSettings
from tests.integration.dashboard.conftest import STAFF, Browser, notes, serve_panel
from tests.integration.dashboard.services import Addresses


async def test_what_was_put_aside_is_seen_and_sent_again_once_it_can_be_taken(
    grace: Browser, addresses: Addresses
) -> None:
    producer = MemoryProducer(addresses.log)
    await producer.start()
    letters = DeadLetters(producer, consumer="billing", topic=BILLING_DEAD, clock=SystemClock())
    bad = LogMessage(USAGE.name, 1, 7, 1, b"acc_1", b"not an event")
    await letters.put(bad, "UndecodableEvent: no envelope")
    await letters.put(LogMessage(BALANCES.name, 0, 3, 1, b"acc_1", b"older"), "not a balance")
    seen = (await grace.call("GET", "/api/operator/dead-letters")).json
    assert seen["away"] == []
    table, usage = seen["letters"]
    assert (usage["service"], usage["topic"], usage["partition"], usage["offset"]) == (
        "billing", USAGE.name, 1, 7,
    )  # fmt: skip
    assert (usage["reason"], usage["value_bytes"], usage["key"]) == (
        "UndecodableEvent: no envelope", 12, "acc_1",
    )  # fmt: skip
    assert [one["retryable"] for one in (table, usage)] == [False, True]
    path = "/api/operator/dead-letters/billing/{}/retry"
    sent = await grace.call("POST", path.format(usage["position"]))
    assert sent.status == 200, sent.body
    assert addresses.log.messages(USAGE.name)[-1].value == b"not an event"
    assert (await notes(grace))[0][:2] == ("dead_letter.retry", f"billing:{usage['position']}")
    for position, status in ((table["position"], 422), (99_999, 404)):
        assert (await grace.call("POST", path.format(position))).status == status
    assert len(addresses.log.messages(BALANCES.name)) == 0


async def test_a_letter_is_opened_without_its_secrets_and_discarded_without_being_lost(
    grace: Browser, addresses: Addresses
) -> None:
    producer = MemoryProducer(addresses.log)
    await producer.start()
    letters = DeadLetters(producer, consumer="usage", topic=USAGE_DEAD, clock=SystemClock())
    secret = "rsk_01KDVDQ3G0AAAAAAAAAAAAAA01"
    event = usage_pb2.UsageRecorded(usage_id="use_1", error_code=secret)
    value = record_of(event, account_id="acc_1", occurred_at_ms=1).to_bytes()
    await letters.put(LogMessage(USAGE.name, 1, 8, 1, b"acc_1", value), "it is from the future")
    seen = (await grace.call("GET", "/api/operator/dead-letters?status=open")).json
    letter = next(one for one in seen["letters"] if one["service"] == "usage")
    path = f"/api/operator/dead-letters/usage/{letter['position']}"
    opened = await grace.call("GET", path)
    assert (opened.json["event_type"], opened.json["account_id"]) == (
        "gateway.UsageRecorded", "acc_1",
    )  # fmt: skip
    assert json.loads(opened.json["event_json"])["usage_id"] == "use_1"
    assert secret.encode() not in opened.body
    without = await grace.call("POST", f"{path}/discard", {"reason": ""})
    assert (without.status, without.code) == (422, "validation_error")
    done = await grace.call("POST", f"{path}/discard", {"reason": "a test"})
    assert (done.status, done.json["status"], done.json["decision_reason"]) == (
        200, "discarded", "a test",
    )  # fmt: skip
    assert done.json["decided_by"].startswith("usr_")
    assert (await notes(grace))[0] == (
        "dead_letter.discard", f"usage:{letter['position']}", "a test",
    )  # fmt: skip
    for status, listed in (("open", False), ("discarded", True)):
        seen = (await grace.call("GET", f"/api/operator/dead-letters?status={status}")).json
        assert (letter["reason"] in {one["reason"] for one in seen["letters"]}) is listed
    assert (await grace.call("GET", "/api/operator/dead-letters/usage/99999")).status == 404
    assert (await grace.call("GET", "/api/operator/dead-letters?status=lost")).status == 422


async def test_the_lag_of_every_group_of_every_service_is_seen_by_partition(
    grace: Browser, addresses: Addresses
) -> None:
    log = addresses.log
    for topic, count in ((KEYS, 3), (LEDGER, 2)):
        for _ in range(count):
            log.append(topic.name, b"k", b"v")
    # Read up to here, in its memory alone.
    addresses.live.worker.take(LogMessage(USAGE.name, 1, 0, 1, b"k", b"not an event"))
    await MemorySource(log, topic=KEYS, group="somebody-else").commit({0: 0})
    seen = (await grace.call("GET", "/api/operator/consumers")).json
    assert (seen["away"], seen["log_away"]) == ([], "")
    found = {(one["service"], one["topic"]): one for one in seen["groups"]}
    billing, usage = found["billing", KEYS.name], found["usage", LEDGER.name]
    for group, ends, lag in ((billing, KEYS, 3), (usage, LEDGER, 2)):
        assert [one["partition"] for one in group["parts"]] == list(range(ends.partitions))
        assert group["lag_messages"] == sum(one["lag_messages"] for one in group["parts"]) >= lag
    live = found["usage-live", USAGE.name]
    assert live["group"].startswith("mesh-usage-live-")
    assert [(one["partition"], one["next_offset"]) for one in live["parts"]] == [(1, 1)]
    [left] = seen["leftover"]
    assert (left["service"], left["group"], left["members"]) == (None, "somebody-else", 0)


async def test_where_the_broker_is_away_positions_are_still_seen_and_a_sentence_says_so(
    grace: Browser, addresses: Addresses
) -> None:
    addresses.log.available = False
    seen = (await grace.call("GET", "/api/operator/consumers")).json
    letters = (await grace.call("GET", "/api/operator/dead-letters")).json
    addresses.log.available = True
    assert seen["log_away"] == "the log is not available"
    assert seen["away"] == []
    assert {one["service"] for one in letters["away"]} == {"billing", "usage"}


async def test_a_service_that_is_away_is_named_and_the_other_one_still_seen(
    settings_for: Callable[..., DashboardSettings], grace: Browser
) -> None:
    settings = settings_for(operators=STAFF, usage_address="127.0.0.1:1", call_timeout_s=2.0)
    async with serve_panel(settings) as panel:
        browser = await panel.browser()
        await browser.log_in(STAFF)
        for path, kept in (("consumers", "groups"), ("dead-letters", "letters")):
            seen = (await browser.call("GET", f"/api/operator/{path}")).json
            assert [one["service"] for one in seen["away"]] == ["usage"]
            assert "usage" not in {one["service"] for one in seen[kept]}
            assert "billing" in {one["service"] for one in seen[kept]}
