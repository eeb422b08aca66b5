"""The local model: a real one, behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from deploy.local.model_server import MODEL_ID
from deploy.local.probes import http_ok
from tests.fixtures.engines import unused_port
from tests.fixtures.waiting import eventually_async


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the model is served."""
    chosen = unused_port()
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local.model_server", "--port", str(chosen)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        yield chosen
        server.terminate()
    assert server.returncode == 0


@pytest.fixture
async def client(port: int) -> AsyncIterator[AsyncOpenAI]:
    await eventually_async(http_ok(port, "/health"))
    base_url = f"http://127.0.0.1:{port}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key="none", timeout=120) as found:
        yield found


async def test_it_answers_in_words_and_counts_its_tokens(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL_ID, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.prompt_tokens > 0


async def test_a_stream_ends_with_its_usage(client: AsyncOpenAI) -> None:
    chunks = await client.chat.completions.create(
        model=MODEL_ID,
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    )
    received = [chunk async for chunk in chunks]
    assert "".join(c.choices[0].delta.content or "" for c in received if c.choices)
    assert received[-1].usage is not None
    assert received[-1].usage.completion_tokens <= 8


async def test_it_serves_several_at_once(client: AsyncOpenAI) -> None:
    async def ask(text: str) -> str | None:
        answer = await client.chat.completions.create(
            model=MODEL_ID, messages=[{"role": "user", "content": text}], max_tokens=4
        )
        return answer.choices[0].message.content

    assert all(await asyncio.gather(*(ask(f"Say {word}.") for word in ("one", "two", "three"))))
