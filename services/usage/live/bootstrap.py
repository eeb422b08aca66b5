"""Puts the live process together."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from services.common import operations
from services.common.clock import Clock, SystemClock
from services.common.consumers import ConsumerWatch
from services.common.grpc import GrpcServer, TokenVerifier
from services.common.kafka import KafkaGroups, LogGroups
from services.common.operations import OperationsServicer
from services.common.ops import OpsServer
from services.common.pb.mesh.usage.v1 import live_pb2_grpc
from services.common.runtime import Component
from services.common.topics import USAGE, Topic
from services.usage.alerts import grpc_alerts
from services.usage.alerts.bootstrap import AlertParts
from services.usage.domain.live import LiveSet
from services.usage.live.config import LiveSettings
from services.usage.live.grpc_live import POLICIES, LiveServicer
from services.usage.live.worker import LiveWorker


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """The parts, and the components that the runtime starts in order."""

    windows: LiveSet
    worker: LiveWorker
    server: GrpcServer
    ops: OpsServer
    components: tuple[Component, ...]


def build(
    settings: LiveSettings,
    *,
    pool: asyncpg.Pool | None = None,
    clock: Clock | None = None,
    topic: Topic = USAGE,
    groups: LogGroups | None = None,
) -> LiveProcess:
    """The process, with alerts where there is a pool; nothing else is opened yet."""
    clock = clock or SystemClock()
    windows = LiveSet(series_max=settings.series_max)
    worker = LiveWorker(
        windows,
        bootstrap=settings.kafka_bootstrap,
        topic=topic,
        group=settings.group,
        clock=clock,
    )
    server = GrpcServer(
        listen=settings.grpc_listen,
        verifier=TokenVerifier(settings.service_secret.get_secret_value()),
        policies=POLICIES | grpc_alerts.POLICIES | operations.POLICIES,
    )
    servicer = LiveServicer(
        windows, clock=clock, lag_ms=lambda: worker.lag_ms, watchers_max=settings.watchers_max
    )
    live_pb2_grpc.add_LiveServiceServicer_to_server(servicer, server.grpc)
    server.reflect("mesh.usage.v1.LiveService")
    watch = ConsumerWatch(groups or KafkaGroups(settings.kafka_bootstrap), pumps=(worker,))
    OperationsServicer(watch).serve_on(server)
    alerts = None
    if pool is not None:
        alerts = AlertParts(
            settings,
            pool,
            windows,
            clock=clock,
            lag_ms=lambda: worker.lag_ms,
            windows_ready=worker.ready.is_set,
        )
        alerts.serve_on(server)
    ops = OpsServer(settings.ops_listen, {"kafka": worker.ready.is_set})

    async def stop_server() -> None:
        ops.drain()
        servicer.close()
        await server.stop(settings.shutdown_grace_s)

    components = (
        Component("ops", ops.start, ops.run, ops.stop),
        *(alerts.components if alerts is not None else ()),
        Component("live", run=worker.run),
        Component("grpc", server.start, server.run, stop_server),
    )
    return LiveProcess(windows, worker, server, ops, components)
