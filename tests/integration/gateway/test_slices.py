"""Answers whose length nobody bounds: held slice by slice, ended where the money ends."""

from __future__ import annotations

import asyncio

import pytest

from services.common.money import TokenKind
from services.common.pb.mesh.events.v1 import usage_pb2
from tests.fixtures.gateway import (
    ACCOUNT,
    GatewayHarness,
    scripted_model,
    short_of_money,
    tokens_of,
)
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import Answer, ask, chat

PROMPT, TOKEN = 14 * 2_000, 8_000
SLICE = 512


@pytest.fixture(autouse=True)
def essays(gateway: GatewayHarness) -> None:
    """A model that may answer as long as it likes, and writes two thousand tokens."""
    gateway.catalogue.add(scripted_model("essay", context_length=0, max_output_tokens=0))


def words_of(answer: Answer, *, stream: bool) -> int:
    """How many words of the essay came."""
    if not stream:
        return str(answer.json["choices"][0]["message"]["content"]).count(" the")
    choices = [choice for frame in answer.frames for choice in frame["choices"]]
    return sum(str(choice["delta"].get("content") or "").count(" the") for choice in choices)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_long_answer_is_held_slice_by_slice_and_never_by_its_worst_case(
    gateway: GatewayHarness, stream: bool
) -> None:
    answer = await ask(gateway, chat("essay", stream=stream))
    assert words_of(answer, stream=stream) == 2_000
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_SUCCESS
    assert event.usage_basis == usage_pb2.USAGE_BASIS_PROVIDER
    assert event.cost_nanousd == PROMPT + 2_000 * TOKEN
    assert event.cost_nanousd <= event.held_nanousd <= PROMPT + (2_000 + 2 * SLICE) * TOKEN
    assert "max_tokens" not in gateway.upstream.requests[0]
    assert len(gateway.grants.lent) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("affordable", [20, 700, 1_990])
async def test_an_answer_ends_cleanly_where_its_money_does(
    gateway: GatewayHarness, stream: bool, affordable: int
) -> None:
    money = PROMPT + affordable * TOKEN + 1
    with short_of_money(gateway, money):
        answer = await ask(gateway, chat("essay", stream=stream))
    assert answer.status == 200
    assert words_of(answer, stream=stream) == affordable
    if stream:
        *_, last, usage = answer.frames
        assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
        assert usage["usage"]["completion_tokens"] == affordable
    else:
        assert answer.json["choices"][0]["finish_reason"] == "length"
        assert answer.json["usage"]["completion_tokens"] == affordable
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_LIMIT_REACHED
    assert (event.finish_reason, event.http_status) == ("length", 200)
    assert tokens_of(event) == {TokenKind.PROMPT: 14, TokenKind.COMPLETION: affordable}
    assert event.cost_nanousd == PROMPT + affordable * TOKEN <= event.held_nanousd <= money
    await eventually(lambda: gateway.upstream.in_flight == 0)
    assert gateway.money.budget.holds == 0


async def test_answers_that_grow_together_never_hold_more_than_there_is(
    gateway: GatewayHarness,
) -> None:
    money = 6 * PROMPT + 5_000 * TOKEN
    seen = []

    async def watch() -> None:
        while True:
            seen.append(gateway.grants.granted_nanousd(ACCOUNT))
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    with short_of_money(gateway, money):
        await asyncio.gather(*(ask(gateway, chat("essay", stream=True)) for _ in range(6)))
    watching.cancel()
    assert 0 < max(seen) <= money
    await gateway.event(6)
    assert sum(event.cost_nanousd for event in gateway.events()) <= money
    for event in gateway.events():
        assert event.cost_nanousd <= event.held_nanousd
    # Nobody stops while there is money for more than the slices that the others hold.
    assert sum(event.cost_nanousd for event in gateway.events()) > money // 2


async def test_a_key_that_is_suspended_meanwhile_gets_no_more_than_is_held(
    gateway: GatewayHarness,
) -> None:
    gateway.grants.balances[ACCOUNT] = PROMPT + 600 * TOKEN
    asked = asyncio.create_task(ask(gateway, chat("essay", stream=True)))
    await eventually(lambda: bool(gateway.grants.lent))
    gateway.grants.inactive.add(gateway.keys.of(gateway.key).key_id)
    answer = await asked
    assert answer.frames[-2]["choices"][0]["finish_reason"] == "length"
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_LIMIT_REACHED
    assert event.cost_nanousd <= event.held_nanousd


async def test_a_caller_that_bounds_its_answer_has_all_of_it_held_at_once(
    gateway: GatewayHarness,
) -> None:
    await ask(gateway, chat("essay", stream=True, max_tokens=3_000))
    event = await gateway.event()
    assert event.held_nanousd == PROMPT + 3_000 * TOKEN
    assert gateway.grants.renew_calls == 0
