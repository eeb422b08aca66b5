"""What a worker keeps of prompts and answers, and that nothing waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.events import EventRecord
from services.common.pb.mesh.events.v1.content_pb2 import ContentRecorded
from services.common.topics import CONTENT
from services.gateway.ports import KeySettings
from tests.fixtures.gateway import GatewayHarness, running_gateway
from tests.fixtures.upstream import WORDS
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import ask, chat

ANSWER = "".join(WORDS)
PROMPT = "[user]\nWhat is the capital of France?"


@pytest.fixture
async def storing(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    """A worker whose operator allows prompts and answers to be stored."""
    async with running_gateway(
        tmp_path / "storing", content_stored=True, cache_bytes_max=2**20
    ) as harness:
        yield harness


def contents(gateway: GatewayHarness) -> list[ContentRecorded]:
    found = [EventRecord.from_bytes(m.value).message() for m in gateway.log.messages(CONTENT.name)]
    return [one for one in found if isinstance(one, ContentRecorded)]


def auth(gateway: GatewayHarness) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.keys.issue(KeySettings(content_stored=True))}"}


async def test_a_key_that_wants_it_has_prompt_and_answer_kept_in_every_form(
    storing: GatewayHarness,
) -> None:
    headers = auth(storing)
    await ask(storing, chat(), **headers)
    assert (await ask(storing, chat(), **headers)).headers["x-cache"] == "HIT"
    await ask(storing, chat(stream=True, temperature=0.5), **headers)
    await eventually(lambda: len(contents(storing)) == 3)
    event = await storing.event(3)
    for one in contents(storing):
        assert (one.prompt, one.answer) == (PROMPT, ANSWER)
        assert (one.account_id, one.model_id) == ("acc_1", "vendor/ok")
        assert "rsk_" not in str(one)
    assert contents(storing)[-1].usage_id == event.usage_id


async def test_other_keys_and_other_workers_keep_nothing(
    storing: GatewayHarness, gateway: GatewayHarness
) -> None:
    await ask(storing, chat())
    await ask(gateway, chat(), **auth(gateway))
    await storing.event()
    await gateway.event()
    # One that is kept comes behind those that are not, so the wait is for something.
    await ask(storing, chat(), **auth(storing))
    await eventually(lambda: bool(contents(storing)))
    assert len(contents(storing)) == 1
    assert contents(gateway) == []


async def test_a_request_that_was_refused_is_kept_without_an_answer(
    storing: GatewayHarness,
) -> None:
    answer = await ask(storing, chat("400"), **auth(storing))
    assert answer.status == 400
    await eventually(lambda: bool(contents(storing)))
    (one,) = contents(storing)
    assert (one.prompt, one.answer) == (PROMPT, "")
