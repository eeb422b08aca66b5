"""Batches through the real SDK: run by the worker, metered item by item, never twice."""

from __future__ import annotations

from typing import Any

import pytest
from meshapi import AsyncMeshAPI, MeshAPIError
from meshapi._types import BatchObject, BatchRequestItem, CreateBatchParams

from services.common.pb.mesh.events.v1 import usage_pb2
from services.gateway.ports import KeySettings
from tests.fixtures.gateway import USD, GatewayHarness
from tests.fixtures.upstream import WORDS
from tests.fixtures.waiting import eventually, eventually_async, running

COST = (16 * 2 + 4 * 1 + 7 * 8) * USD // 1_000_000


def _mesh(gateway: GatewayHarness, key: str = "") -> AsyncMeshAPI:
    return AsyncMeshAPI(base_url=gateway.url, token=key or gateway.key, max_retries=0)


def _item(name: str, model: str = "vendor/ok", **more: Any) -> BatchRequestItem:  # Any: JSON
    body = {"model": model, "messages": [{"role": "user", "content": f"Hi {name}"}], **more}
    return BatchRequestItem(custom_id=name, body=body)


async def _over(gateway: GatewayHarness, batch_id: str) -> BatchObject:
    """The batch, once it is over."""
    batches = _mesh(gateway).batches

    async def over() -> bool:
        return (await batches.get(batch_id)).status in ("completed", "cancelled", "expired")

    await eventually_async(over)
    return await batches.get(batch_id)


async def test_a_batch_is_run_and_every_item_is_metered_once(gateway: GatewayHarness) -> None:
    made = await _mesh(gateway).batches.create(
        CreateBatchParams(
            requests=[_item(name) for name in ("a", "b", "c")],
            completion_window="24h",
            metadata={"team": "blue"},
        )
    )
    assert (made.status, made.model, made.endpoint) == (
        "in_progress",
        "vendor/ok",
        "/v1/chat/completions",
    )
    assert made.request_counts == {"total": 3, "completed": 0, "failed": 0}
    assert made.metadata == {"team": "blue"}
    async with running(gateway.runner.run):
        done = await _over(gateway, made.id)
    assert (done.status, done.usage_synced) == ("completed", True)
    assert done.request_counts == {"total": 3, "completed": 3, "failed": 0}
    assert done.results is not None
    by_id = {result["custom_id"]: result["response"] for result in done.results}
    assert sorted(by_id) == ["a", "b", "c"]
    assert {one["status_code"] for one in by_id.values()} == {200}
    assert by_id["a"]["body"]["choices"][0]["message"]["content"] == "".join(WORDS)
    await gateway.event(3)
    events = gateway.events()
    assert [event.cost_nanousd for event in events] == [COST] * 3
    assert len({event.usage_id for event in events}) == 3
    assert {event.request_id for event in events} == {f"{made.id}:{n}" for n in (1, 2, 3)}


async def test_items_that_fail_say_why_and_cost_nothing(gateway: GatewayHarness) -> None:
    made = await _mesh(gateway).batches.create(
        CreateBatchParams(requests=[_item("a", "vendor/400"), _item("b", "vendor/400", n=0)])
    )
    async with running(gateway.runner.run):
        done = await _over(gateway, made.id)
    assert done.request_counts == {"total": 2, "completed": 0, "failed": 2}
    assert done.results is not None
    errors = {result["custom_id"]: result["error"]["code"] for result in done.results}
    assert errors == {"a": "invalid_request", "b": "validation_error"}
    assert done.errors_detail is not None
    assert {error["custom_id"] for error in done.errors_detail} == {"a", "b"}
    await gateway.event(2)
    assert {event.cost_nanousd for event in gateway.events()} == {0}


async def test_an_item_waits_where_its_provider_limits_its_rate(gateway: GatewayHarness) -> None:
    made = await _mesh(gateway).batches.create(
        CreateBatchParams(requests=[_item("a", "vendor/429")])
    )
    async with running(gateway.runner.run):
        await gateway.event(1)
    assert (await _mesh(gateway).batches.get(made.id)).status == "in_progress"
    await eventually(lambda: gateway.runner.running == 0)
    # Cancelled, it does not wait any more.
    cancelled = await _mesh(gateway).batches.cancel(made.id)
    assert cancelled.status == "cancelled"


async def test_what_runs_when_a_batch_is_cancelled_is_finished_and_the_rest_is_not_begun(
    gateway: GatewayHarness,
) -> None:
    requests = [_item(f"{n}", "vendor/hang") for n in range(9)]
    made = await _mesh(gateway).batches.create(CreateBatchParams(requests=requests))
    async with running(gateway.runner.run):
        await eventually(lambda: gateway.upstream.in_flight == 4)
        cancelling = await _mesh(gateway).batches.cancel(made.id)
        assert cancelling.status == "cancelling"
        gateway.upstream.go_on.set()
        done = await _over(gateway, made.id)
    assert done.status == "cancelled"
    assert done.request_counts == {"total": 9, "completed": 4, "failed": 0}
    assert done.results is not None
    assert len(done.results) == 4
    assert (await gateway.event(4)).cost_nanousd == COST


async def test_a_run_that_another_worker_took_over_is_not_billed(gateway: GatewayHarness) -> None:
    made = await _mesh(gateway).batches.create(
        CreateBatchParams(requests=[_item("a", "vendor/hang")])
    )
    async with running(gateway.runner.run):
        await eventually(lambda: gateway.upstream.in_flight == 1)
        # As when this worker had been cut off until its lease ran out.
        (entry,) = gateway.jobs.store._items[made.id]
        entry.due_at_ms = 0
        other = gateway.jobs.client("gateway-other")
        (work,) = await other.claim(5, lease_s=30)
        assert work.run == 2
        assert await other.finish(work, http_status=200, answer=b'{"id":"x"}', request_id="r")
        gateway.upstream.go_on.set()
        event = await gateway.event(1)
    assert (event.cost_nanousd, event.error_code) == (0, "superseded")
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_CLIENT_GONE
    done = await _over(gateway, made.id)
    assert done.results is not None
    assert done.results[0]["response"]["body"] == {"id": "x"}


async def test_a_worker_that_stops_puts_its_items_back(gateway: GatewayHarness) -> None:
    made = await _mesh(gateway).batches.create(
        CreateBatchParams(requests=[_item("a", "vendor/hang")])
    )
    async with running(gateway.runner.run):
        await eventually(lambda: gateway.upstream.in_flight == 1)
        await gateway.runner.drain()
    assert (await gateway.event(1)).cost_nanousd == 0
    (entry,) = gateway.jobs.store._items[made.id]
    assert (entry.item.state, entry.worker_id) == ("queued", "")


async def test_an_item_of_a_key_that_was_revoked_is_not_run(gateway: GatewayHarness) -> None:
    key = gateway.keys.issue(KeySettings())
    principal = gateway.keys.of(key)
    made = await _mesh(gateway, key).batches.create(CreateBatchParams(requests=[_item("a")]))
    gateway.keys.revoke(key)
    async with running(gateway.runner.run):
        jobs = gateway.jobs.client("reader")

        async def over() -> bool:
            return (await jobs.get(principal, "batch", made.id)).failed == 1

        await eventually_async(over)
    assert gateway.upstream.requests == []
    assert gateway.events() == []


async def test_a_batch_has_one_model_and_names_its_faults(gateway: GatewayHarness) -> None:
    batches = _mesh(gateway).batches
    for requests, status, code, word in (
        ([_item("a"), _item("b", "vendor/burst")], 400, "mixed_models", "vendor/burst"),
        ([], 422, "validation_error", "requests"),
        ([_item("a"), _item("a")], 422, "validation_error", "requests.1.custom_id"),
        ([_item("a", stream=True)], 422, "validation_error", "stream"),
        ([_item("a", "vendor/none")], 404, "model_not_found", "vendor/none"),
        ([_item("a", "")], 422, "validation_error", "model"),
    ):
        with pytest.raises(MeshAPIError) as refused:
            await batches.create(CreateBatchParams(requests=requests))
        assert (refused.value.status, refused.value.error_code) == (status, code)
        assert word in str(refused.value)


async def test_a_key_has_ten_batches_under_way_and_sees_its_own_alone(
    gateway: GatewayHarness,
) -> None:
    batches = _mesh(gateway).batches
    made = [await batches.create(CreateBatchParams(requests=[_item("a")])) for _ in range(10)]
    with pytest.raises(MeshAPIError) as eleventh:
        await batches.create(CreateBatchParams(requests=[_item("a")]))
    assert (eleventh.value.status, eleventh.value.error_code) == (429, "batch_limit_exceeded")
    page = await batches.list(limit=4)
    assert [batch.id for batch in page.data] == [batch.id for batch in made[:5:-1]]
    assert page.has_more
    assert page.last_id is not None
    rest = await batches.list(after=page.last_id, limit=100)
    assert len(rest.data) == 6
    other = _mesh(gateway, gateway.keys.issue()).batches
    assert (await other.list()).data == []
    for call in (other.get, other.cancel):
        with pytest.raises(MeshAPIError) as foreign:
            await call(made[0].id)
        assert (foreign.value.status, foreign.value.error_code) == (404, "not_found")


async def test_a_fault_while_an_answer_is_taken_bills_nothing_and_is_logged(
    gateway: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await _mesh(gateway).batches.create(CreateBatchParams(requests=[_item("a")]))

    async def broken(*_: object, **__: object) -> bool:
        raise RuntimeError("broken inside")

    monkeypatch.setattr(gateway.runner, "_finish", broken)
    async with running(gateway.runner.run):
        event = await gateway.event(1)
    assert event.cost_nanousd == 0
    assert (await _mesh(gateway).batches.get(made.id)).status == "in_progress"
