"""Calls from workers to billing over a network that delays, drops and repeats.

The gateway's real client and billing's real servicer are at its ends; messages pass as bytes and
errors as the trailer they travel in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from services.billing.entrypoints.grants import GrantsServicer
from services.common.errors import AppError, InternalError, Unavailable
from services.common.grpc import GrpcChannel
from services.common.grpc.errors import app_error_from_trailer, trailer_of
from services.common.pb.mesh.billing.v1 import grants_pb2 as pb
from services.common.security.tokens import Principal
from tests.sim.loop import NETWORK, Process, call_in, spawn
from tests.sim.world import World

R = TypeVar("R")
Outcome = Message | AppError
_REQUESTS: dict[str, type[Message]] = {
    "OpenGrant": pb.OpenGrantRequest,
    "RenewGrant": pb.RenewGrantRequest,
    "CloseGrant": pb.CloseGrantRequest,
    "ListRecalls": pb.ListRecallsRequest,
}


@dataclass(frozen=True, slots=True)
class Replica:
    """A billing process that takes calls."""

    process: Process
    servicer: GrantsServicer


class Network:
    """Between all workers and all replicas. `partitioned`: nothing passes."""

    def __init__(
        self, world: World, on_call: Callable[[Message], None], on_defect: Callable[[str], None]
    ) -> None:
        self.world = world
        self.replicas: list[Replica] = []
        self.partitioned = False
        self._on_call = on_call
        self._on_defect = on_defect

    def channel(self) -> GrpcChannel:
        """What `GrpcGrants` calls through."""
        return cast(GrpcChannel, _SimChannel(self))

    async def call(self, path: str, request: Message, timeout_s: float) -> Message:
        """The answer. Raises what the server raised; Unavailable after the timeout."""
        world = self.world
        world.point("calling billing")
        self._on_call(request)
        reply: asyncio.Future[Message] = world.loop.create_future()
        for number in range(2 if world.chance(world.odds.duplicate) else 1):
            if world.chance(world.odds.drop):
                continue
            late_s = world.delay_s(0.002, 4.0)
            call_in(
                NETWORK,
                world.loop.call_later,
                late_s,
                self._arrive_once if number else self._arrive,
                path,
                request.SerializeToString(),
                reply,
                timeout_s,
            )
        try:
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError as error:
            raise Unavailable("DEADLINE_EXCEEDED: no details") from error

    def _arrive_once(
        self, path: str, raw: bytes, reply: asyncio.Future[Message], timeout_s: float
    ) -> None:
        """A repetition on the way. HTTP/2 repeats no call that a server may have begun, so that an
        opening is only ever repeated by the worker itself.
        """
        if not path.endswith("/OpenGrant"):
            self._arrive(path, raw, reply, timeout_s)

    def _arrive(
        self, path: str, raw: bytes, reply: asyncio.Future[Message], timeout_s: float
    ) -> None:
        alive = [one for one in self.replicas if one.process.alive]
        if self.partitioned:
            return
        if not alive:
            self._send(reply, Unavailable("UNAVAILABLE: connection refused"))
            return
        replica = self.world.rng.choice(alive)
        work = spawn(replica.process, self._serve(replica, path, raw, reply))
        if self.world.chance(0.5):
            # The server hears of the caller's deadline, mostly; never when a commit is under way.
            call_in(replica.process, self.world.loop.call_later, timeout_s, work.cancel)
        if self.world.chance(0.5):
            # A connection that is reset says so; one whose machine is gone says nothing.
            lost = Unavailable("UNAVAILABLE: connection reset")
            replica.process.on_death.append(lambda: self._send(reply, lost))

    async def _serve(
        self, replica: Replica, path: str, raw: bytes, reply: asyncio.Future[Message]
    ) -> None:
        outcome: Outcome
        try:
            method = path.rpartition("/")[2]
            request = _REQUESTS[method].FromString(raw)
            outcome = await getattr(replica.servicer, method)(request, None)
        except AppError as error:
            if isinstance(error, InternalError):
                self._on_defect(f"billing: {error.message}")
            outcome = app_error_from_trailer(trailer_of(error)) or InternalError("no trailer")
        except Exception as error:  # noqa: BLE001 - the edge of the simulated server
            self._on_defect(f"billing: {error!r}")
            outcome = InternalError("something went wrong")
        if not self.world.chance(self.world.odds.drop) and not self.partitioned:
            self._send(reply, outcome)

    def _send(self, reply: asyncio.Future[Message], outcome: Outcome) -> None:
        def arrive() -> None:
            if reply.done():
                return
            if isinstance(outcome, AppError):
                reply.set_exception(outcome)
                reply.exception()
            else:
                reply.set_result(outcome)

        call_in(NETWORK, self.world.loop.call_later, self.world.delay_s(0.002, 4.0), arrive)


class _Paths:
    """Stands in for a gRPC channel where stubs are made: a method is its path."""

    def unary_unary(self, path: str, **options: object) -> str:
        """The method."""
        return path


class _SimChannel:
    """The part of `GrpcChannel` that clients use."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def channel(self) -> Any:  # Any: grpc's channel has no common type
        """For the stubs."""
        return _Paths()

    async def call(
        self,
        method: object,
        request: Message,
        *,
        principal: Principal | None = None,
        timeout_s: float | None = None,
    ) -> Any:  # Any: the answer of whichever method
        """One call."""
        return await self._network.call(str(method), request, timeout_s or 5.0)
