"""How failures of providers look to the caller, and that nothing undelivered is billed."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.common.money import TokenKind
from services.common.pb.mesh.events.v1 import usage_pb2
from tests.fixtures.gateway import GatewayHarness, tokens_of
from tests.fixtures.upstream import WORDS
from tests.fixtures.waiting import eventually
from tests.fixtures.wire import QUESTION, ask, chat, hang_up_after

NEVER_SHOWN = (
    "sk-upstream",
    "vendor.internal",
    "vendor.example",
    "db7",
    "10.0.0.7",
    "org-abc",
    "script-",
)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "status", "code", "stage"),
    [
        ("400", 400, "invalid_request", "upstream_submit"),
        ("401", 502, "upstream_error", "credentials"),
        ("403", 502, "upstream_error", "credentials"),
        ("404", 502, "upstream_error", "credentials"),
        ("408", 504, "gateway_timeout", "upstream_submit"),
        ("413", 400, "invalid_request", "upstream_submit"),
        ("422", 400, "invalid_request", "upstream_submit"),
        ("429", 429, "upstream_rate_limit_error", "upstream_submit"),
        ("500", 502, "upstream_error", "upstream_submit"),
        ("502", 502, "upstream_error", "upstream_submit"),
        ("503", 503, "provider_not_available", "upstream_submit"),
        ("504", 504, "gateway_timeout", "upstream_submit"),
        ("redirect", 502, "upstream_error", "upstream_submit"),
        ("refuse", 502, "upstream_error", "upstream_submit"),
        ("html", 502, "upstream_error", "upstream_submit"),
        ("garbage", 502, "upstream_error", "upstream_submit"),
        ("empty", 502, "upstream_error", "upstream_stream"),
        ("frame-first", 503, "provider_not_available", "upstream_submit"),
    ],
)
async def test_a_failure_before_the_first_token_is_an_unbilled_http_error(
    gateway: GatewayHarness, *, script: str, status: int, code: str, stage: str, stream: bool
) -> None:
    answer = await ask(gateway, chat(script, stream=stream))
    assert (answer.status, answer.code) == (status, code)
    assert not any(secret in answer.body.decode() for secret in NEVER_SHOWN)
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR
    assert (event.http_status, event.error_code) == (status, code)
    assert event.failure_stage == stage
    assert (event.cost_nanousd, event.usage_basis) == (0, usage_pb2.USAGE_BASIS_NONE)
    # What may pass is tried again; in the end nothing served.
    retried = script in ("500", "502", "redirect", "refuse", "html", "garbage", "empty")
    attempts = 3 if retried or script == "frame-first" else 1
    assert [attempt.served for attempt in event.attempts] == [False] * attempts


async def test_a_throttled_provider_says_when_to_come_again(gateway: GatewayHarness) -> None:
    answer = await ask(gateway, chat("429"))
    assert answer.headers["retry-after"] == "7"
    assert answer.json["error"]["retry_after_seconds"] == 7


async def test_a_refusal_tells_what_is_wrong_without_the_operators_affairs(
    gateway: GatewayHarness,
) -> None:
    answer = await ask(gateway, chat("400"))
    said = answer.json["error"]["message"]
    assert said == "temperature is too warm for vendor/400 at [address] [id]"


async def test_a_provider_that_cannot_be_reached_is_not_available(gateway: GatewayHarness) -> None:
    provider = gateway.catalogue.providers["prv_script"]
    away = replace(provider, base_url="http://127.0.0.1:1/v1")
    gateway.catalogue.providers["prv_script"] = away
    answer = await ask(gateway, chat())
    assert (answer.status, answer.code) == (503, "provider_not_available")
    assert (await gateway.event()).attempts[0].http_status == 0


async def test_a_provider_without_its_credential_is_not_available(gateway: GatewayHarness) -> None:
    provider = gateway.catalogue.providers["prv_script"]
    gateway.catalogue.providers["prv_script"] = replace(provider, credential=None)
    answer = await ask(gateway, chat())
    assert (answer.status, answer.code) == (503, "provider_not_available")
    assert (await gateway.event()).outcome == usage_pb2.REQUEST_OUTCOME_REFUSED


@pytest.mark.parametrize(
    ("script", "words"), [("close", WORDS[:3]), ("early", WORDS[:3]), ("frame", ("Par",))]
)
async def test_a_stream_that_breaks_off_says_so_and_bills_what_was_delivered(
    gateway: GatewayHarness, script: str, words: tuple[str, ...]
) -> None:
    answer = await ask(gateway, chat(script, stream=True))
    assert answer.status == 200
    *chunks, last = answer.frames
    delivered = [c["choices"][0]["delta"].get("content") or "" for c in chunks]
    assert "".join(delivered) == "".join(words)
    assert last["error"]["code"] == "upstream_error"
    assert last["request_id"] == answer.headers["x-request-id"]
    assert not any(secret in answer.body.decode() for secret in NEVER_SHOWN)
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR
    assert (event.http_status, event.failure_stage) == (200, "upstream_stream")
    assert event.usage_basis == usage_pb2.USAGE_BASIS_TOKENIZER
    tokens = tokens_of(event)
    assert tokens[TokenKind.PROMPT] == 14
    assert 0 < tokens[TokenKind.COMPLETION] <= 3
    assert event.cost_nanousd > 0


@pytest.mark.parametrize("script", ["close", "early", "frame"])
async def test_a_whole_answer_that_breaks_off_is_not_billed(
    gateway: GatewayHarness, script: str
) -> None:
    answer = await ask(gateway, chat(script))
    assert (answer.status, answer.code) == (502, "upstream_error")
    event = await gateway.event()
    assert (event.cost_nanousd, len(event.quantities)) == (0, 0)


@pytest.mark.parametrize("script", ["hang", "silent"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_provider_that_never_begins_times_out_unbilled(
    impatient: GatewayHarness, script: str, stream: bool
) -> None:
    answer = await ask(impatient, chat(script, stream=stream))
    assert (answer.status, answer.code) == (504, "gateway_timeout")
    assert (await impatient.event()).cost_nanousd == 0
    await eventually(lambda: impatient.upstream.hung_up == 1)


async def test_a_stream_that_falls_silent_ends_in_a_time_out_frame(
    impatient: GatewayHarness,
) -> None:
    answer = await ask(impatient, chat("slow", stream=True))
    assert answer.frames[-1]["error"]["code"] == "gateway_timeout"
    event = await impatient.event()
    assert (event.error_code, event.failure_stage) == ("gateway_timeout", "upstream_stream")
    assert event.cost_nanousd > 0
    await eventually(lambda: impatient.upstream.hung_up == 1)


async def test_the_caller_may_lower_the_time_limit(gateway: GatewayHarness) -> None:
    answer = await ask(gateway, chat("hang", timeout=0.1))
    assert (answer.status, answer.code) == (504, "gateway_timeout")
    cut = await ask(gateway, chat("slow", timeout=0.2, stream=True))
    assert cut.frames[-1]["error"]["code"] == "gateway_timeout"


async def test_a_caller_who_hangs_up_on_a_stream_ends_the_upstream_and_pays_for_what_came(
    gateway: GatewayHarness,
) -> None:
    now = asyncio.Event()
    now.set()
    await hang_up_after(gateway, chat("slow", stream=True), until=now)
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_CLIENT_GONE
    assert event.usage_basis == usage_pb2.USAGE_BASIS_TOKENIZER
    assert tokens_of(event) == {
        TokenKind.PROMPT: 14,
        TokenKind.COMPLETION: 3,
    }
    assert event.cost_nanousd == 14 * 2_000 + 3 * 8_000
    await eventually(lambda: gateway.upstream.hung_up == 1)


async def test_a_caller_who_hangs_up_on_a_whole_answer_is_noticed(gateway: GatewayHarness) -> None:
    sent = asyncio.Event()
    caller = asyncio.create_task(hang_up_after(gateway, chat("hang"), until=sent))
    await eventually(lambda: gateway.upstream.in_flight == 1)
    sent.set()
    await caller
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_CLIENT_GONE
    assert (event.cost_nanousd, event.http_status) == (0, 499)
    assert event.usage_basis == usage_pb2.USAGE_BASIS_NONE
    await eventually(lambda: gateway.upstream.hung_up == 1)


async def test_connections_to_a_provider_are_used_again(gateway: GatewayHarness) -> None:
    for _ in range(5):
        await ask(gateway, {"model": "vendor/ok", "messages": QUESTION})
    assert gateway.upstream.connections == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_provider_with_a_bad_certificate_is_not_available_and_sees_no_credential(
    gateway: GatewayHarness, tmp_path: Path, *, stream: bool
) -> None:
    async with self_signed_server(tmp_path) as (url, heard):
        provider = gateway.catalogue.providers["prv_script"]
        gateway.catalogue.providers["prv_script"] = replace(provider, base_url=url)
        answer = await ask(gateway, chat(stream=stream))
    assert (answer.status, answer.code) == (503, "provider_not_available")
    assert not any(word in answer.body.decode().lower() for word in ("certificate", "127.0.0.1"))
    event = await gateway.event()
    assert event.outcome == usage_pb2.REQUEST_OUTCOME_UPSTREAM_ERROR
    assert (event.failure_stage, event.error_code) == ("upstream_submit", "provider_not_available")
    assert (event.cost_nanousd, event.usage_basis) == (0, usage_pb2.USAGE_BASIS_NONE)
    assert {attempt.http_status for attempt in event.attempts} == {0}
    assert not any(attempt.served for attempt in event.attempts)
    assert heard == []


@asynccontextmanager
async def self_signed_server(directory: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTPS server on loopback whose certificate nobody vouches for, and what it was asked."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    heard: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append(request.headers.get("Authorization", ""))
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/v1", heard
    finally:
        await runner.cleanup()
