"""The gRPC server and channel against each other, over loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common import errors
from services.common.errors import (
    AppError,
    FieldError,
    Forbidden,
    InternalError,
    InvalidArgument,
    SpendLimitExceeded,
    Unauthorized,
    Unavailable,
)
from services.common.grpc import Access, GrpcChannel, TokenSigner, identity, principal
from services.common.grpc.errors import _tree
from services.common.pb.mesh.billing.v1 import grants_pb2, grants_pb2_grpc
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc
from services.common.security.tokens import CallIdentity, Principal
from services.common.telemetry import current_trace_id, span
from tests.contract.common.grants import SECRET, Setup, serving
from tests.fixtures.engines import unused_port

CLASSES = [cls for cls in _tree(AppError) if cls.__module__ == errors.__name__]
ADMIN = Principal("user", "acc_1", user_id="usr_1", role="admin")
REQUEST = grants_pb2.OpenGrantRequest(worker_id="w1")


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with serving() as made:
        yield made


async def test_a_call_is_answered_and_the_handler_knows_the_caller(setup: Setup) -> None:
    seen: list[CallIdentity] = []

    async def behave() -> None:
        seen.append(identity())
        assert principal() == ADMIN

    setup.grants.behave = behave
    stub = grants_pb2_grpc.GrantsServiceStub(setup.channel.channel())
    answer = await setup.channel.call(stub.OpenGrant, REQUEST, principal=ADMIN)
    assert answer.grant.grant_id == "w1"
    assert seen == [CallIdentity("gateway", ADMIN)]
    with pytest.raises(Unauthorized):
        identity()


@pytest.mark.parametrize("cls", CLASSES)
async def test_every_error_arrives_as_the_same_class(setup: Setup, cls: type[AppError]) -> None:
    raised = cls(
        "what went wrong",
        details=[FieldError(("body", 0, "name"), "is wrong", "kind")],
        retry_after_s=7,
        extra={"limit": "key_cap"},
    )

    async def behave() -> None:
        raise raised

    setup.grants.behave = behave
    with pytest.raises(cls) as caught:
        await setup.open()
    found = caught.value
    assert type(found) is cls
    assert (found.message, found.details) == (raised.message, raised.details)
    assert (found.retry_after_s, found.extra) == (7, {"limit": "key_cap"})


async def test_an_error_class_of_a_service_arrives_as_its_nearest_known_base(setup: Setup) -> None:
    class OverCap(SpendLimitExceeded):
        pass

    async def behave() -> None:
        raise OverCap("over")

    setup.grants.behave = behave
    with pytest.raises(SpendLimitExceeded, match="over"):
        await setup.open()


async def test_of_an_unexpected_error_nothing_is_told_but_it_is_logged(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    async def behave() -> None:
        raise ZeroDivisionError("secret detail")

    setup.grants.behave = behave
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError) as caught:
        await setup.open()
    assert "secret detail" not in str(caught.value)


async def test_a_call_without_a_token_is_unauthorized(setup: Setup) -> None:
    stub = grants_pb2_grpc.GrantsServiceStub(setup.channel.channel())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.OpenGrant(REQUEST, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    stranger = GrpcChannel(setup.address, TokenSigner(SECRET + "?", "gateway"))
    with pytest.raises(Unauthorized):
        await setup.open(stranger)
    await stranger.close()


async def test_a_call_without_a_deadline_is_refused(setup: Setup) -> None:
    stub = grants_pb2_grpc.GrantsServiceStub(setup.channel.channel())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.OpenGrant(REQUEST, metadata=setup.channel.metadata())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "deadline" in (caught.value.details() or "")


async def test_a_method_without_a_policy_is_denied() -> None:
    async with serving({}) as setup:
        with pytest.raises(Forbidden, match="no policy"):
            await setup.open()


async def test_a_service_that_is_not_named_is_denied(setup: Setup) -> None:
    channel = setup.channel_of("dashboard")
    with pytest.raises(Forbidden, match="dashboard"):
        await setup.open(channel)
    await channel.close()


USER = {"viewer": 0, "developer": 1, "admin": 2, "owner": 3, "": -1, "root": -1}


@pytest.mark.parametrize("role", USER)
@pytest.mark.parametrize("role_min", ["viewer", "developer", "admin", "owner"])
def test_a_role_must_be_at_least_what_the_policy_asks(role: str, role_min: str) -> None:
    access = Access(frozenset({"dashboard"}), "user", role_min)  # type: ignore[arg-type]  # parameters are str
    caller = CallIdentity("dashboard", Principal("user", "acc_1", role=role))
    if USER[role] >= USER[role_min]:
        access.check(caller)
    else:
        with pytest.raises(Forbidden, match=role_min):
            access.check(caller)


@pytest.mark.parametrize(
    ("kind", "passes"),
    [
        ("none", {None, "user", "key", "operator"}),
        ("any", {"user", "key", "operator"}),
        ("user", {"user", "operator"}),
        ("operator", {"operator"}),
    ],
)
def test_each_kind_of_policy_takes_its_kinds_of_principals(
    kind: str, passes: set[str | None]
) -> None:
    access = Access(frozenset({"cli"}), kind)  # type: ignore[arg-type]  # parameters are str
    for who in (None, "user", "key", "operator"):
        role = "viewer" if who == "user" else ""
        found = None if who is None else Principal(who, "acc_1", role=role)
        if who in passes:
            access.check(CallIdentity("cli", found))
        else:
            with pytest.raises((Forbidden, Unauthorized)):
                access.check(CallIdentity("cli", found))


async def test_a_stream_gives_its_rows_and_then_its_error(setup: Setup) -> None:
    async def behave() -> None:
        assert identity().service == "gateway"
        raise InvalidArgument.of("since_ms", "is in the future")

    setup.usage.behave = behave
    stub = usage_pb2_grpc.UsageServiceStub(setup.channel.channel())
    rows = setup.channel.stream(stub.TailRequests, usage_pb2.TailRequestsRequest())
    assert [(await anext(rows)).usage_id for _ in range(2)] == ["use_0", "use_1"]
    with pytest.raises(InvalidArgument, match="since_ms"):
        await anext(rows)


async def test_a_caller_that_hangs_up_ends_the_stream(setup: Setup) -> None:
    ended = asyncio.Event()

    async def behave() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    setup.usage.behave = behave
    stub = usage_pb2_grpc.UsageServiceStub(setup.channel.channel())
    stream = setup.channel.stream(stub.TailRequests, usage_pb2.TailRequestsRequest())
    assert [(await anext(stream)).usage_id for _ in range(2)] == ["use_0", "use_1"]
    await stream.aclose()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_trace_goes_on_in_the_handler(setup: Setup) -> None:
    seen: list[str] = []

    async def behave() -> None:
        seen.append(current_trace_id())

    setup.grants.behave = behave
    with span("caller") as caller:
        await setup.open()
    assert seen == [caller.trace_id]


async def test_a_passed_deadline_is_unavailable(setup: Setup) -> None:
    async def behave() -> None:
        await asyncio.Event().wait()

    setup.grants.behave = behave
    stub = grants_pb2_grpc.GrantsServiceStub(setup.channel.channel())
    with pytest.raises(Unavailable):
        await setup.channel.call(stub.OpenGrant, REQUEST, timeout_s=0.05)


async def test_a_channel_finds_its_server_again() -> None:
    listen = f"127.0.0.1:{unused_port()}"
    channel = GrpcChannel(listen, TokenSigner(SECRET, "gateway"))
    async with serving(listen=listen) as setup:
        assert await setup.open(channel) == "w1"
    with pytest.raises(Unavailable):
        await setup.open(channel)
    async with serving(listen=listen) as setup:
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await setup.open(channel) == "w1"
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)
    await channel.close()
    with pytest.raises(Unavailable):
        await setup.open(channel)


async def test_a_stop_lets_the_call_under_way_end(setup: Setup) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        begun.set()
        await go_on.wait()

    setup.grants.behave = behave
    call = asyncio.create_task(setup.open())
    await begun.wait()
    serving_task = asyncio.create_task(setup.server.run())
    stop = asyncio.create_task(setup.server.stop(10))
    await asyncio.sleep(0)
    go_on.set()
    assert await call == "w1"
    await stop
    await asyncio.wait_for(serving_task, 5)
    with pytest.raises(Unavailable):
        await setup.open()


async def test_health_needs_no_token(setup: Setup) -> None:
    async with grpc.aio.insecure_channel(setup.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "mesh.billing.v1.GrantsService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_tells_its_services_to_whoever_has_a_token(setup: Setup) -> None:
    async def ask(metadata: tuple[tuple[str, str], ...]) -> set[str]:
        async with grpc.aio.insecure_channel(setup.address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            question = reflection_pb2.ServerReflectionRequest(list_services="")
            call = stub.ServerReflectionInfo(iter([question]), metadata=metadata, timeout=5)
            answer = await anext(aiter(call))
            return {service.name for service in answer.list_services_response.service}

    names = await ask(setup.channel.metadata())
    assert {"mesh.billing.v1.GrantsService", "mesh.usage.v1.UsageService"} <= names
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
