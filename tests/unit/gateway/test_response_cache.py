"""What may be kept and answered again, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.common.clock import FakeClock
from services.common.ids import AccountId, ProviderId
from services.gateway.chat_request import ChatRequest, chat_request_from_body
from services.gateway.ports import KeySettings, ProviderEntry
from services.gateway.response_cache import ANSWER_BYTES_MAX, PROMPT_BYTES_MAX, ResponseCache
from services.gateway.routing import Route
from tests.fixtures.gateway import PRICE, scripted_model

ACCOUNT = AccountId("acc_1")
PROVIDER = ProviderEntry(ProviderId("prv"), "P", "openai_compatible", "http://x", True, 0)
ROUTE = Route(scripted_model("ok"), PROVIDER, PRICE)
PLAIN = KeySettings()
TOOL = {"type": "function", "function": {"name": "f"}}


def request(content: Any = "Hi", **more: Any) -> ChatRequest:
    messages = [{"role": "user", "content": content}]
    return chat_request_from_body({"model": "vendor/ok", "messages": messages, **more})


def answer(text: str = "Paris", reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"total_tokens": 3},
    }


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(clock: FakeClock) -> ResponseCache:
    return ResponseCache(clock, bytes_max=100_000, ttl_s=60)


def key_of(
    cache: ResponseCache,
    asked: ChatRequest,
    *,
    account: AccountId = ACCOUNT,
    chosen: Route = ROUTE,
    settings: KeySettings = PLAIN,
    bypass: bool = False,
) -> bytes | None:
    return cache.key(account, asked, chosen, settings=settings, bypass=bypass)


@pytest.mark.parametrize(
    "asked",
    [
        request(temperature=0.1),
        request(tools=[TOOL]),
        request(cache=False),
        request(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
        request([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]),
        request("x" * (PROMPT_BYTES_MAX + 1)),
        replace(request(), operation="embeddings"),
    ],
    ids=["warm", "tools", "cache-false", "audio", "image", "long", "embeddings"],
)
def test_what_would_be_answered_otherwise_next_time_is_not_kept(
    cache: ResponseCache, asked: ChatRequest
) -> None:
    assert key_of(cache, asked) is None


def test_header_key_and_worker_can_switch_it_off(cache: ResponseCache, clock: FakeClock) -> None:
    asked = request()
    assert key_of(cache, asked) is not None
    assert key_of(cache, asked, bypass=True) is None
    assert key_of(cache, asked, settings=KeySettings(response_cache_disabled=True)) is None
    assert key_of(ResponseCache(clock, bytes_max=0, ttl_s=60), asked) is None


@pytest.mark.parametrize(
    "same",
    [
        request(stream=True),
        request(cache=True),
        request(tools=[]),
        request(session_id="s", tags={"a": "b"}, end_user_id="u", timeout=9),
    ],
    ids=["stream", "cache-true", "no-tools", "ours"],
)
def test_what_does_not_decide_over_the_answer_finds_the_same(
    cache: ResponseCache, same: ChatRequest
) -> None:
    assert key_of(cache, same) == key_of(cache, request())


@pytest.mark.parametrize(
    "other",
    [
        request("Hi!"),
        request(temperature=0),
        request(max_tokens=5),
        request(stop=["x"]),
        request(seed=1),
        request(n=2),
        request(response_format={"type": "json_object"}),
        request(reasoning={"effort": "low"}),
    ],
)
def test_another_question_finds_another_answer(cache: ResponseCache, other: ChatRequest) -> None:
    found = key_of(cache, other)
    assert found is not None
    assert found != key_of(cache, request())


def test_accounts_models_and_providers_share_nothing(cache: ResponseCache) -> None:
    asked = request()
    others = [
        key_of(cache, asked, account=AccountId("acc_2")),
        key_of(cache, asked, chosen=replace(ROUTE, model=scripted_model("tools"))),
        key_of(cache, asked, chosen=replace(ROUTE, provider=replace(PROVIDER, provider_id="x"))),  # type: ignore[arg-type]  # an id
    ]
    assert len({key_of(cache, asked), *others}) == 4


async def test_an_answer_is_kept_for_its_time(cache: ResponseCache, clock: FakeClock) -> None:
    cache.put(b"k", answer())
    await clock.advance(59)
    found = cache.get(b"k")
    assert found is not None
    assert found.content() == answer()
    await clock.advance(1)
    assert cache.get(b"k") is None
    assert (len(cache), cache.size) == (0, 0)


def test_what_is_kept_is_bounded_and_the_least_used_goes_first(clock: FakeClock) -> None:
    cache = ResponseCache(clock, bytes_max=3_000, ttl_s=60)
    for name in (b"a", b"b", b"c"):
        cache.put(name, answer("x" * 300))
    assert cache.get(b"a") is not None
    cache.put(b"d", answer("x" * 300))
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]
    assert cache.size <= 3_000
    for _ in range(10):
        cache.put(b"d", answer())
    assert len(cache) == 3


def test_answers_that_broke_off_were_filtered_or_are_too_large_are_not_kept(
    clock: FakeClock,
) -> None:
    cache = ResponseCache(clock, bytes_max=10 * ANSWER_BYTES_MAX, ttl_s=60)
    cache.put(b"k", answer(reason="content_filter"))
    cache.put(b"k", answer("x" * ANSWER_BYTES_MAX))
    assert len(cache) == 0
    cache.put(b"k", answer(reason="length"))
    assert len(cache) == 1
