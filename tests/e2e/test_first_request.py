"""What a newcomer does first: the printed curl line, the official SDKs, the log, the balance."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import meshapi
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from services.common.money import nanousd_from_usd
from tests.e2e.stack import REPOSITORY, Stack

PRICED = "local/smollm2-135m"
FREE = "local/smollm2-135m:free"
ASK: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Say hello in one short sentence."}
]
VISIBLE_WITHIN_S = 2.0
# Other tests on the same stack have accounts of their own.
DEMO = "demo@mesh.local"


async def logged(
    stack: Stack, request_id: str, *, within_s: float = VISIBLE_WITHIN_S
) -> dict[str, object]:
    """The request's row, asked for until it is there."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return (await stack.admin("logs", "show", request_id, "--account", DEMO))[0]
        except RuntimeError as error:
            # The command itself takes most of a second to start: the deadline is for asking.
            if time.monotonic() > deadline or "not" not in str(error):
                raise


def test_the_printed_curl_line_answers_with_text_from_the_model(stack: Stack) -> None:
    printed = (stack.data_dir.parent / "data.out").read_text()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    found = re.search(r"curl .*?[^\\]\n", plain, re.DOTALL)
    assert found, plain
    line = found.group()
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_openai_package_gets_an_answer(stack: Stack, stream: bool) -> None:
    client = openai.OpenAI(
        base_url=stack.demo["MESH_BASE_URL"] + "/v1", api_key=stack.demo["MESH_API_KEY"]
    )
    if not stream:
        whole = client.chat.completions.create(model=PRICED, messages=ASK, max_tokens=24)
        assert whole.choices[0].message.content
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        return
    chunks = list(
        client.chat.completions.create(model=PRICED, messages=ASK, max_tokens=24, stream=True)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_meshapi_package_gets_an_answer(stack: Stack, stream: bool) -> None:
    client = meshapi.MeshAPI(base_url=stack.demo["MESH_BASE_URL"], token=stack.demo["MESH_API_KEY"])
    params = meshapi.ChatCompletionParams(
        model=FREE,
        messages=[meshapi.ChatMessage(role="user", content="Say hello in one short sentence.")],
        max_tokens=24,
    )
    if not stream:
        whole = client.chat.completions.create(params)
        assert whole.choices[0].message.content
        assert whole.usage is not None
        return
    chunks = list(client.chat.completions.stream(params))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None


async def test_a_request_is_in_the_log_with_all_its_figures_and_the_balance_falls_by_its_price(
    stack: Stack,
) -> None:
    [before] = await stack.admin("balances", "show", DEMO)
    client = openai.AsyncOpenAI(
        base_url=stack.demo["MESH_BASE_URL"] + "/v1", api_key=stack.demo["MESH_API_KEY"]
    )
    raw = await client.chat.completions.with_raw_response.create(
        model=PRICED,
        messages=ASK,
        max_tokens=24,
        # The same question was asked before; out of the cache it would cost nothing.
        extra_body={"cache": False},
    )
    usage = raw.parse().usage
    assert usage is not None
    row = await logged(stack, raw.headers["x-request-id"])
    assert (row["prompt"], row["completion"]) == (usage.prompt_tokens, usage.completion_tokens)
    # $0.10 and $0.40 per million tokens.
    cost_nanousd = usage.prompt_tokens * 100 + usage.completion_tokens * 400
    assert row["cost_nanousd"] == cost_nanousd
    assert row["status"] == 200
    assert row["outcome"] == "success"
    assert re.fullmatch(r"[0-9a-f]{32}", str(row["trace_id"]))
    assert int(str(row["latency_ms"])) >= int(str(row["first_token_ms"])) > 0
    [after] = await stack.admin("balances", "show", DEMO)
    fall = nanousd_from_usd(before["posted_usd"]) - nanousd_from_usd(after["posted_usd"])
    assert fall == cost_nanousd


async def test_the_live_tail_shows_a_request_as_it_ends(stack: Stack) -> None:
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "admin", "logs", "tail", "--json",
        cwd=REPOSITORY, env=stack.environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert tail.stdout is not None
    client = openai.AsyncOpenAI(
        base_url=stack.demo["MESH_BASE_URL"] + "/v1", api_key=stack.demo["MESH_API_KEY"]
    )
    try:
        sent: set[str] = set()
        # The tail shows what ends after it is connected, which only its first line can tell.
        while True:
            raw = await client.chat.completions.with_raw_response.create(
                model=FREE,
                messages=ASK,
                max_tokens=4,
            )
            sent.add(raw.headers["x-request-id"])
            try:
                line = await asyncio.wait_for(tail.stdout.readline(), VISIBLE_WITHIN_S)
            except TimeoutError:
                continue
            break
        assert json.loads(line)["request_id"] in sent
    finally:
        tail.terminate()
        await tail.wait()


def spans_of(folder: Path, trace_id: str) -> list[dict[str, object]]:
    files = [path for path in folder.iterdir() if path.is_file()]
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return [row for row in rows if row["trace_id"] == trace_id]


async def test_one_trace_runs_from_the_request_to_the_ledger_entry(stack: Stack) -> None:
    client = openai.AsyncOpenAI(
        base_url=stack.demo["MESH_BASE_URL"] + "/v1", api_key=stack.demo["MESH_API_KEY"]
    )
    trace_id = os.urandom(16).hex()
    raw = await client.chat.completions.with_raw_response.create(
        model=PRICED,
        messages=ASK,
        max_tokens=4,
        extra_body={"cache": False},
        extra_headers={"traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01"},
    )
    row = await logged(stack, raw.headers["x-request-id"])
    assert row["trace_id"] == trace_id
    folder = stack.data_dir.parent / "traces"
    deadline = time.monotonic() + 20
    services: set[object] = set()
    while not {"gateway", "billing", "usage"} <= services and time.monotonic() < deadline:
        services = {span["service"] for span in spans_of(folder, trace_id)}
        await asyncio.sleep(0.1)  # spans are exported in batches
    assert {"gateway", "billing", "usage"} <= services
    [entry] = [
        t for t in await stack.admin("balances", "transactions", DEMO)
        if t["request_id"] == raw.headers["x-request-id"]
    ]  # fmt: skip
    assert entry["amount_nanousd"] == -int(str(row["cost_nanousd"]))
