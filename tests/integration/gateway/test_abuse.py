"""What is thrown at the front door: each is refused as documented, and the worker goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import AppError
from services.gateway.chat_request import body_from_bytes, chat_request_from_body
from services.gateway.dialects.messages_body import chat_body_from_messages
from services.gateway.dialects.responses_body import chat_body_from_responses
from tests.fixtures.gateway import GatewayHarness, running_gateway
from tests.fixtures.wire import QUESTION, ask, call, chat

MIB = 1024 * 1024
IDLE = int(os.environ.get("IDLE", "10000"))
ROUTES = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings",
          "/v1/moderations", "/v1/chat/compare", "/v1/router/select", "/v1/templates")  # fmt: skip
BODIES = {
    "nothing": b"",
    "invalid-utf-8": b'{"model":"vendor/ok","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "lone-surrogate": b'{"model":"vendor/ok","messages":[{"role":"user","content":"\\ud800"}]}',
    "nul": b'{"model":"vendor/ok\\u0000","messages":[{"role":"user\\u0000","content":"x"}]}',
    "deep-lists": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "huge-integer": b'{"model":"vendor/ok","messages":[],"seed":' + b"9" * 400 + b"}",
    "huge-exponent": b'{"model":"vendor/ok","messages":[],"temperature":1e400}',
    "not-a-number": b'{"model":"vendor/ok","messages":[],"temperature":NaN}',
    "list": b"[1,2,3]",
    "text": b'"hello"',
    "cut-off": b'{"model":"vendor/ok","mess',
    "many-keys": b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}",
    "many-messages": orjson.dumps({"model": "vendor/ok", "messages": QUESTION * 20_000}),
    "form": b"model=vendor/ok&messages=hello",
}  # fmt: skip


async def alive(gateway: GatewayHarness) -> None:
    assert (await ask(gateway, chat())).status == 200


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_request_is_refused_on_every_route(
    gateway: GatewayHarness, name: str
) -> None:
    for route in ROUTES:
        answer = await call(gateway, "POST", route, body=BODIES[name])
        assert 400 <= answer.status < 500, (route, answer.body[:300])
        assert answer.json["error"]["message"]
        assert answer.headers["x-request-id"].startswith("req_")
    assert gateway.upstream.requests == []
    await alive(gateway)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["role", "content", "type", "text", "tool_calls", "function", "name", "arguments",
             "image_url", "url", "input_audio", "id", "messages", "input", "tools", "system"]
        )
        | st.text(max_size=4),
        inner,
        max_size=5,
    ),
    max_leaves=24,
)  # fmt: skip
FIELDS = ["model", "messages", "input", "tools", "tool_choice", "response_format", "stop",
          "system", "reasoning", "max_tokens", "instructions", "text", "metadata",
          "stop_sequences"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_a_request_or_is_refused_in_every_format(body: dict[str, object]) -> None:
    with contextlib.suppress(AppError):
        chat_request_from_body(dict(body), default_model="m")
    with contextlib.suppress(AppError):
        chat_request_from_body(chat_body_from_responses(dict(body), []), default_model="m")
    with contextlib.suppress(AppError):
        chat_request_from_body(chat_body_from_messages(dict(body)), default_model="m")


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_object_or_a_bad_request(raw: bytes) -> None:
    with contextlib.suppress(AppError):
        assert isinstance(body_from_bytes(raw), dict)


async def test_bodies_beyond_the_limit_are_refused_and_their_memory_comes_back(
    tmp_path: Path,
) -> None:
    process = psutil.Process()
    async with running_gateway(tmp_path) as gateway:
        await alive(gateway)
        before = process.memory_info().rss
        for _ in range(3):
            answer = await call(
                gateway, "POST", "/v1/chat/completions", body=b"[" + b" " * (33 * MIB)
            )
            assert (answer.status, answer.code) == (413, "payload_too_large")
        await alive(gateway)
        gc.collect()
        assert process.memory_info().rss - before < 200 * MIB


async def _opened(gateway: GatewayHarness) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_client_that_sends_its_body_too_slowly_is_told_and_holds_nothing(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path, body_timeout_s=0.3) as gateway:
        reader, writer = await _opened(gateway)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {gateway.key}\r\nContent-Length: 1000\r\n\r\n{{"
        )
        writer.write(head.encode())
        async with asyncio.timeout(10):
            said = await reader.readuntil(b"}")
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"did not arrive in time" in said
        writer.close()
        event = await gateway.event()
        assert (event.http_status, event.cost_nanousd, event.failure_stage) == (400, 0, "template")
        await alive(gateway)


@pytest.mark.parametrize(
    "flood",
    [
        b"X-A: " + b"a" * 300_000 + b"\r\n",
        b"".join(b"X-%d: b\r\n" % n for n in range(20_000)),
        b"X-A: b\r\n" * 20_000,
    ],
    ids=["one-long", "many", "the-same"],
)
async def test_a_flood_of_headers_is_cut_off(gateway: GatewayHarness, flood: bytes) -> None:
    reader, writer = await _opened(gateway)
    said = b""
    with contextlib.suppress(ConnectionError):
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + flood + b"\r\n")
        await writer.drain()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            said = await reader.read(4096)
    # A client that goes on sending may see the connection cut before the answer.
    assert said == b"" or said.startswith(b"HTTP/1.1 400 ")
    writer.close()
    await alive(gateway)


async def test_garbage_instead_of_http_is_refused(gateway: GatewayHarness) -> None:
    refused = 0
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HELLO\r\n\r\n",
        b"\x00" * 99,
    ):
        reader, writer = await _opened(gateway)
        writer.write(garbage)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                said = await reader.read()
                assert b" 200 " not in said
                if said.startswith(b"HTTP/1.1 400 "):
                    refused += 1
                    assert b"x-request-id: req_" in said
        writer.close()
    assert refused
    await alive(gateway)


IDLER = """
import resource, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for number in range(count):
    one = socket.create_connection((host, port), timeout=30)
    if number % 2:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: x\\r\\n")
    held.append(one)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def many_files() -> Iterator[None]:
    """The worker's side of the connections is in this process, whose limit may be lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_idle_connections_cost_little_and_hinder_nobody(gateway: GatewayHarness) -> None:
    process = psutil.Process()
    await alive(gateway)
    before = process.memory_info().rss
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    idler = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IDLER, host, port, str(IDLE),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert idler.stdout is not None
    assert idler.stdin is not None
    try:
        async with asyncio.timeout(60):
            assert await idler.stdout.readline() == b"open\n"
        for _ in range(5):
            await alive(gateway)
        assert (process.memory_info().rss - before) / IDLE < 64 * 1024
    finally:
        idler.stdin.close()
        async with asyncio.timeout(30):
            await idler.wait()
    await alive(gateway)
