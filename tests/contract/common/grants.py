"""A servicer that does as it is told, a server around it and a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc

from services.common.grpc import Access, GrpcChannel, GrpcServer, TokenSigner, TokenVerifier
from services.common.pb.mesh.billing.v1 import grants_pb2, grants_pb2_grpc
from services.common.pb.mesh.usage.v1 import usage_pb2, usage_pb2_grpc

SECRET = "a secret of more than thirty-two characters"
OPEN = "/mesh.billing.v1.GrantsService/OpenGrant"
CLOSE = "/mesh.billing.v1.GrantsService/CloseGrant"
TAIL = "/mesh.usage.v1.UsageService/TailRequests"
GATEWAY = Access(frozenset({"gateway"}), "none")

# Any: the context is generic over messages that it does not show.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answer = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """What a method does unless a test says otherwise."""


class Grants(grants_pb2_grpc.GrantsServiceServicer):
    """`behave` runs in `OpenGrant`, which answers with the worker's id as the grant's."""

    def __init__(self) -> None:
        self.behave: Answer = nothing

    async def OpenGrant(
        self, request: grants_pb2.OpenGrantRequest, context: Context
    ) -> grants_pb2.OpenGrantResponse:
        await self.behave()
        return grants_pb2.OpenGrantResponse(grant=grants_pb2.Grant(grant_id=request.worker_id))

    async def CloseGrant(
        self, request: grants_pb2.CloseGrantRequest, context: Context
    ) -> grants_pb2.CloseGrantResponse:
        return grants_pb2.CloseGrantResponse()

    async def _uncalled(self, request: object, context: object) -> object:
        raise AssertionError("no test calls this")

    RenewGrant = ListRecalls = _uncalled  # type: ignore[assignment]  # of no use here


class Usage(usage_pb2_grpc.UsageServiceServicer):
    """`TailRequests` gives two rows and then behaves."""

    def __init__(self) -> None:
        self.behave: Answer = nothing

    async def TailRequests(
        self, request: usage_pb2.TailRequestsRequest, context: Context
    ) -> AsyncIterator[usage_pb2.LoggedRequest]:
        for number in range(2):
            yield usage_pb2.LoggedRequest(usage_id=f"use_{number}")
        await self.behave()

    async def _unused(self, request: object, context: object) -> object:
        raise AssertionError("no test calls this")

    ListRequests = GetRequest = SummarizeUsage = _unused  # type: ignore[assignment]  # as above
    ListAttempts = SpendTrend = SpendByDay = _unused  # type: ignore[assignment]  # as above
    ExportRequests = _unused  # type: ignore[assignment]  # as above
    ListDifferences = Reconcile = _unused  # type: ignore[assignment]  # as above


class Setup:
    """A running server with its servicers, and a channel to it."""

    def __init__(self, server: GrpcServer, grants: Grants, usage: Usage) -> None:
        self.server, self.grants, self.usage = server, grants, usage
        self.address = f"127.0.0.1:{server.port}"
        self.channel = GrpcChannel(self.address, TokenSigner(SECRET, "gateway"))

    def channel_of(self, service: str) -> GrpcChannel:
        return GrpcChannel(self.address, TokenSigner(SECRET, service))

    async def open(self, channel: GrpcChannel | None = None) -> str:
        """Calls `OpenGrant`; gives the grant's id."""
        used = channel or self.channel
        stub = grants_pb2_grpc.GrantsServiceStub(used.channel())
        request = grants_pb2.OpenGrantRequest(worker_id="w1")
        return (await used.call(stub.OpenGrant, request)).grant.grant_id


@asynccontextmanager
async def serving(
    policies: Mapping[str, Access] | None = None, *, listen: str = "127.0.0.1:0"
) -> AsyncIterator[Setup]:
    """A server with these policies (default: the gateway may call everything)."""
    allowed = {OPEN: GATEWAY, CLOSE: GATEWAY, TAIL: GATEWAY}
    server = GrpcServer(
        listen=listen,
        verifier=TokenVerifier(SECRET),
        policies=allowed if policies is None else policies,
    )
    grants, usage = Grants(), Usage()
    grants_pb2_grpc.add_GrantsServiceServicer_to_server(grants, server.grpc)
    usage_pb2_grpc.add_UsageServiceServicer_to_server(usage, server.grpc)
    server.reflect("mesh.billing.v1.GrantsService", "mesh.usage.v1.UsageService")
    await server.start()
    setup = Setup(server, grants, usage)
    try:
        yield setup
    finally:
        await setup.channel.close()
        await server.stop(0.1)
