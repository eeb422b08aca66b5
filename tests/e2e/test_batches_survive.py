"""A batch on the whole stack: its workers are killed midway, and every item is billed once."""

from __future__ import annotations

import aiohttp

from tests.e2e.load import books, quiescence
from tests.e2e.market import Market
from tests.e2e.stack import Stack, gateway_names
from tests.fixtures.waiting import eventually, eventually_async

# As many as the three workers of the session's stack run at once.
ITEMS = 12
MODEL = "test/slow-priced"


async def test_a_batch_outlives_its_workers_and_every_item_is_billed_once(
    stack: Stack, market: Market
) -> None:
    customer = await market.customer("batches@example.com")
    body = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
    requests = [{"custom_id": f"c{n}", "body": body} for n in range(ITEMS)]
    headers = {"authorization": f"Bearer {customer.key}"}
    url = f"{stack.demo['MESH_BASE_URL']}/v1/batches"
    batch: dict[str, object] = {}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(url, json={"requests": requests}) as answer:
            assert answer.status == 200
            batch = await answer.json()

        async def over() -> bool:
            nonlocal batch
            try:
                async with session.get(f"{url}/{batch['id']}") as answer:
                    if answer.status == 200:
                        batch = await answer.json()
            except aiohttp.ClientError:
                # The workers are on their way back.
                return False
            return batch["status"] == "completed"

        await eventually(lambda: market.upstream.in_flight == ITEMS)
        for name in gateway_names(stack):
            stack.kill(name)
        market.upstream.go_on.set()
        try:
            await eventually_async(over, timeout_s=120)
        finally:
            market.upstream.go_on.clear()
    assert batch["request_counts"] == {"total": ITEMS, "completed": ITEMS, "failed": 0}
    await quiescence(stack, customer.account_id, within_s=120)
    at_end = await books(
        stack, customer.account_id, start_nanousd=customer.start_nanousd, limit=1_000
    )
    assert at_end.wallet_fall_nanousd == at_end.log_nanousd == at_end.recomputed_nanousd
    billed = [row for row in at_end.rows.values() if int(row["cost_nanousd"]) > 0]
    assert sorted(str(row["request_id"]) for row in billed) == sorted(
        f"{batch['id']}:{n}" for n in range(1, ITEMS + 1)
    )
    crashed = [row for row in at_end.rows.values() if row["outcome"] == "crashed"]
    assert crashed
    assert {int(row["cost_nanousd"]) for row in crashed} == {0}
