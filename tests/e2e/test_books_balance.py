"""After any load the books balance to the nano-dollar, also when processes are killed under it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from services.common.money import nanousd_from_usd
from tests.e2e.load import Books, Kind, Load, Seen, books, posted_nanousd, quiescence
from tests.e2e.market import Market
from tests.e2e.stack import Stack, gateway_names
from tests.fixtures.waiting import eventually

PRICED, FREE = "test/ok-priced", "test/ok-free"
MIX = (
    Kind(PRICED, stream=False, weight=30),
    Kind(PRICED, stream=True, weight=30),
    Kind(FREE, stream=False, weight=8),
    Kind(FREE, stream=True, weight=8),
    Kind("test/slow-priced", stream=True, hang_up=True, weight=8),
    Kind("test/500-priced", stream=False, weight=8),
    Kind("test/close-priced", stream=True, weight=8),
)
REQUESTS = 1_000
ROUNDS = 4


def assert_books_agree(found: Books) -> None:
    assert found.log_nanousd == found.recomputed_nanousd
    assert found.wallet_fall_nanousd == found.log_nanousd
    assert found.held_nanousd == 0


async def assert_spending_is_alike_by_day_provider_model_and_key(
    stack: Stack, account: str, found: Books
) -> None:
    """`mesh billing spend` ends with 1 where a row of the journal is not the log's."""
    rows = await stack.mesh("billing", "spend", account)
    assert all(row["equal"] for row in rows)
    assert sum(nanousd_from_usd(row["spent_usd"]) for row in rows) == found.log_nanousd
    assert sum(nanousd_from_usd(row["log_usd"]) for row in rows) == found.wallet_fall_nanousd
    priced = {(r["provider_id"], r["model_id"], r["key_id"])
              for r in found.rows.values() if int(r["cost_nanousd"])}  # fmt: skip
    assert {(row["provider_id"], row["model_id"], row["key_id"]) for row in rows} == priced


def assert_log_says_what_clients_saw(found: Books, seen: list[Seen]) -> None:
    by_request = {str(row["request_id"]): row for row in found.rows.values()}
    for one in seen:
        row = by_request[one.request_id]
        if one.usage is not None:
            assert {"prompt": row["prompt"], "completion": row["completion"]} == one.usage
            assert row["outcome"] == "success"
        if one.ending == "refused":
            assert row["status"] == one.status
            assert row["cost_nanousd"] == 0


async def test_a_thousand_mixed_requests_leave_tokens_times_price_equal_wallet_and_log(
    stack: Stack, market: Market
) -> None:
    customer = await market.customer("mixed@example.com", usd="50")
    load = Load(stack.demo["MESH_BASE_URL"], customer.key, MIX, seed=1, total=REQUESTS)
    await load.run()
    assert load.broken == 0
    await quiescence(stack, customer.account_id)
    found = await books(stack, customer.account_id, start_nanousd=customer.start_nanousd,
                        limit=2 * REQUESTS)  # fmt: skip
    assert len(found.rows) == REQUESTS
    assert found.log_nanousd > 0
    assert_books_agree(found)
    await assert_spending_is_alike_by_day_provider_model_and_key(stack, customer.account_id, found)
    assert_log_says_what_clients_saw(found, load.seen)
    workers = {row["worker_id"] for row in found.rows.values()}
    assert len(workers) == len(gateway_names(stack)) == 3
    endings = {one.ending for one in load.seen}
    assert endings == {"complete", "refused", "hung_up", "broken"}


def running(stack: Stack, prefix: str) -> list[str]:
    """The names of the service's processes that run now: `usage`, say, or `gateway-0`."""
    return sorted(name for name in stack.pids() if re.fullmatch(rf"{prefix}(-\d+)?", name))


def killer(stack: Stack, seed: int) -> Callable[[], Coroutine[Any, Any, None]]:
    """Kills a gateway worker, billing and usage, a few times each, at random moments."""
    order = random.Random(seed)

    async def kill_all() -> None:
        victims = ["gateway", "billing", "usage"] * ROUNDS
        order.shuffle(victims)
        for name in victims:
            await asyncio.sleep(order.uniform(0.2, 1.5))
            # One that was killed a moment ago may not be there again yet.
            await eventually(partial(running, stack, name))
            stack.kill(order.choice(running(stack, name)))

    return kill_all


async def test_the_books_balance_after_kill_9_of_gateway_billing_and_usage_under_load(
    stack: Stack, market: Market
) -> None:
    customer = await market.customer("killed@example.com", usd="50")
    load = Load(stack.demo["MESH_BASE_URL"], customer.key, MIX, seed=2, total=REQUESTS)
    before = stack.pids()
    await load.run(meanwhile=killer(stack, seed=2))
    now = stack.pids()
    # One that is not there is on its way back.
    killed = {name for name, pid in before.items() if now.get(name) != pid}
    assert {"billing", "usage"} <= killed
    assert any(name.startswith("gateway") for name in killed)
    await quiescence(stack, customer.account_id, within_s=240)
    found = await books(stack, customer.account_id, start_nanousd=customer.start_nanousd,
                        limit=50 * REQUESTS)  # fmt: skip
    assert_books_agree(found)
    assert_log_says_what_clients_saw(found, load.seen)
    complete = [one for one in load.seen if one.ending == "complete"]
    assert complete, "nothing was served between the kills"
    assert await posted_nanousd(stack, customer.account_id) < customer.start_nanousd
