"""Puts a gateway worker together by plain calls; its components are in their order of start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from services.common.clock import Clock, SystemClock
from services.common.grpc import GrpcChannel, TokenSigner
from services.common.ids import WorkerId
from services.common.kafka import KafkaProducer
from services.common.ops import OpsServer
from services.common.runtime import Component
from services.common.telemetry import get_logger
from services.gateway import tokens
from services.gateway.account_reads import Balances
from services.gateway.adapters.account_reads_grpc import GrpcBalances, GrpcRequestLog
from services.gateway.adapters.admin_keys_grpc import GrpcAdminKeys
from services.gateway.adapters.alerts_grpc import GrpcAlerts
from services.gateway.adapters.credentials_grpc import GrpcCredentials
from services.gateway.adapters.grants_grpc import GrpcGrants
from services.gateway.adapters.jobs_grpc import GrpcJobs
from services.gateway.adapters.key_admin_grpc import GrpcKeyAdmin, GrpcSessions
from services.gateway.adapters.quotas_grpc import GrpcQuotas
from services.gateway.adapters.recharge_grpc import GrpcRecharges
from services.gateway.adapters.templates_grpc import GrpcTemplates
from services.gateway.admin_keys import AdminKeyHolders, AdminKeys
from services.gateway.alerts import Alerts
from services.gateway.attempts import Attempts
from services.gateway.auto_route import AutoRouter
from services.gateway.auto_step import AutoStep
from services.gateway.config import GatewaySettings
from services.gateway.contents.port import NO_CONTENTS, Contents
from services.gateway.contents.recorder import ContentRecorder
from services.gateway.dialects.chat import CHAT, ChatDialect
from services.gateway.dialects.port import Dialect
from services.gateway.entrypoints.app import PublicReads, build_app
from services.gateway.entrypoints.chat_lane import ChatLane
from services.gateway.entrypoints.edge import Edge
from services.gateway.entrypoints.server import PublicServer
from services.gateway.jobs.batches import EMBEDDINGS, Batches
from services.gateway.jobs.ports import Jobs, Work
from services.gateway.jobs.responses import Responses
from services.gateway.jobs.runner import JobRunner
from services.gateway.key_admin import KeyAdmin, Sessions
from services.gateway.latencies import LatencyBook
from services.gateway.money import Money
from services.gateway.pipeline import ChatPipeline, PipelineRules
from services.gateway.ports import (
    Budget,
    Catalogue,
    Freshness,
    KeyDirectory,
    ProviderKind,
    Quotas,
    UsageJournal,
)
from services.gateway.providers.formats import chat_providers
from services.gateway.providers.http import open_session
from services.gateway.providers.port import ChatProvider
from services.gateway.quota.service import LeasedQuotas
from services.gateway.recent import RecentAdminKeys, RecentSessions
from services.gateway.recharge import Recharges
from services.gateway.response_cache import ResponseCache
from services.gateway.routing import Router
from services.gateway.state.state import GatewayState, kafka_readers
from services.gateway.template_store import Templates
from services.gateway.templates import TemplateDirectory
from services.gateway.usage_reports import UsageReports

_log = get_logger(__name__)

MONEY_DRAIN_S = 5.0
QUOTA_DRAIN_S = 2.0
# What the other components may take to stop, on top of the requests and the money.
_STOP_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Ports:
    """All that the request path needs of its surroundings."""

    keys: KeyDirectory
    catalogue: Catalogue
    template_directory: TemplateDirectory
    freshness: Freshness
    quotas: Quotas
    budget: Budget
    journal: UsageJournal
    balances: Balances
    request_log: UsageReports
    templates: Templates
    sessions: Sessions
    key_admin: KeyAdmin
    admin_holders: AdminKeyHolders
    admin_keys: AdminKeys
    alerts: Alerts
    recharges: Recharges
    providers: dict[ProviderKind, ChatProvider]
    clock: Clock
    not_ready: Callable[[], list[str]]
    jobs: Jobs
    contents: Contents = NO_CONTENTS


@dataclass(slots=True)
class Gateway:
    """A composed worker: its components, and the servers whose ports tests ask for."""

    components: list[Component]
    public: PublicServer
    ops: OpsServer
    # For the whole stop: requests, money, the rest.
    grace_s: float


def build_edge(settings: GatewaySettings, ports: Ports) -> Edge:
    """The public application over its ports."""
    latencies = LatencyBook()
    auto = AutoRouter(ports.catalogue, ports.providers.keys(), latencies.latency_ms)
    pipeline = ChatPipeline(
        keys=ports.keys,
        freshness=ports.freshness,
        templates=ports.template_directory,
        attempts=Attempts(
            router=Router(ports.catalogue, ports.providers.keys()),
            providers=ports.providers,
            quotas=ports.quotas,
            budget=ports.budget,
            clock=ports.clock,
            upstream=settings.upstream,
            estimates=settings.estimates,
            policy=settings.routing,
        ),
        auto=AutoStep(auto, latencies),
        cache=ResponseCache(
            ports.clock, bytes_max=settings.cache_bytes_max, ttl_s=settings.cache_ttl_s
        ),
        quotas=ports.quotas,
        budget=ports.budget,
        journal=ports.journal,
        contents=ports.contents,
        clock=ports.clock,
        rules=PipelineRules(settings.worker_id, settings.estimates),
    )
    lane = ChatLane(
        pipeline,
        ports.clock,
        body_bytes_max=settings.body_bytes_max,
        body_timeout_s=settings.body_timeout_s,
    )
    reads = PublicReads(
        keys=ports.keys,
        catalogue=ports.catalogue,
        freshness=ports.freshness,
        quotas=ports.quotas,
        balances=ports.balances,
        request_log=ports.request_log,
        templates=ports.templates,
        sessions=RecentSessions(ports.sessions, ports.clock),
        key_admin=ports.key_admin,
        admin_holders=RecentAdminKeys(ports.admin_holders, ports.clock),
        admin_keys=ports.admin_keys,
        alerts=ports.alerts,
        recharges=ports.recharges,
        clock=ports.clock,
        not_ready=ports.not_ready,
    )
    app = build_app(
        reads,
        lane,
        auto,
        responses=Responses(ports.jobs, pipeline, ports.clock),
        batches=Batches(ports.jobs, pipeline, ports.clock),
    )
    return Edge(lane, app, ports.keys)


def build_runner(settings: GatewaySettings, ports: Ports, edge: Edge) -> JobRunner:
    """What runs items of jobs through the edge's pipeline."""
    responses = Responses(ports.jobs, edge.pipeline, ports.clock)

    def dialect_for(work: Work) -> Dialect:
        if work.kind == "response":
            return responses.dialect(work.job_id)
        return ChatDialect("embeddings") if work.route == EMBEDDINGS else CHAT

    return JobRunner(
        ports.jobs,
        edge.pipeline,
        clock=ports.clock,
        limits=settings.runner,
        dialect_for=dialect_for,
    )


def public_server(edge: Edge, settings: GatewaySettings) -> PublicServer:
    """The listening side, by the settings."""
    return PublicServer(
        edge,
        settings.listen,
        backlog=settings.backlog,
        header_bytes_max=settings.header_bytes_max,
        keep_alive_s=settings.keep_alive_s,
        grace_s=settings.grace_s,
    )


async def compose(settings: GatewaySettings) -> Gateway:
    """Opens the write-ahead file and composes the rest. Raises JournalLocked, JournalDamaged."""
    clock = SystemClock()
    worker_id = WorkerId(settings.worker_id)
    signer = TokenSigner(settings.service_secret.get_secret_value(), "gateway")
    channels = _channels(settings, signer)
    accounts, billing, usage, live, catalog, jobs = channels
    state = GatewayState(
        kafka_readers(settings.kafka_bootstrap),
        GrpcCredentials(catalog),
        clock=clock,
        stale_max_s=settings.stale_max_s,
    )
    producer = KafkaProducer(settings.kafka_bootstrap, client_id=settings.worker_id)
    money = Money.open(
        settings.wal_dir,
        billing=GrpcGrants(billing, worker_id),
        producer=producer,
        worker_id=worker_id,
        clock=clock,
        budget_limits=settings.budget,
        journal_limits=settings.journal,
    )
    quotas = LeasedQuotas(GrpcQuotas(billing, worker_id), clock=clock, limits=settings.quota)
    recorder = _content_recorder(settings, clock)
    session = open_session(settings.pool)
    worker = Worker(settings, state, money)
    ports = Ports(
        keys=state.keys,
        catalogue=state.catalogue,
        template_directory=state.templates,
        freshness=state.freshness,
        quotas=quotas,
        budget=money.budget,
        journal=money.journal,
        balances=GrpcBalances(billing),
        request_log=GrpcRequestLog(usage),
        templates=GrpcTemplates(catalog),
        sessions=GrpcSessions(accounts),
        key_admin=GrpcKeyAdmin(accounts),
        admin_holders=(admin_keys := GrpcAdminKeys(accounts)),
        admin_keys=admin_keys,
        alerts=GrpcAlerts(live),
        recharges=GrpcRecharges(billing),
        providers=chat_providers(session, settings.pool),
        clock=clock,
        not_ready=worker.not_ready,
        jobs=GrpcJobs(jobs, worker_id),
        contents=recorder or NO_CONTENTS,
    )
    edge = build_edge(settings, ports)
    worker.public = public_server(edge, settings)
    worker.runner = runner = build_runner(settings, ports, edge)
    components = [
        Component("ops", worker.ops.start, worker.ops.run, worker.ops.stop),
        Component("channels", stop=lambda: _close_all(session, *channels)),
        Component("producer", producer.start, stop=producer.stop),
        Component("journal", stop=worker.close_journal),
        Component("money", run=money.run, stop=worker.drain_money),
        Component("quotas", run=quotas.run, stop=lambda: _drained(quotas)),
        Component("state", run=state.run),
        Component("jobs", run=worker.run_jobs, stop=lambda: _given_up(runner)),
        Component("public", run=worker.serve, stop=worker.stop_serving),
    ]
    if recorder is not None:
        # Stopped after the last request and before the log is let go.
        components.insert(1, Component("contents", run=recorder.run, stop=recorder.stop))
    grace_s = settings.drain_notice_s + 2 * settings.grace_s + MONEY_DRAIN_S + QUOTA_DRAIN_S
    grace_s += _STOP_MARGIN_S
    return Gateway(components, worker.public, worker.ops, grace_s)


def _content_recorder(settings: GatewaySettings, clock: Clock) -> ContentRecorder | None:
    """What keeps prompts and answers, with a producer of its own that money does not wait for."""
    if not settings.content_stored:
        return None
    producer = KafkaProducer(
        settings.kafka_bootstrap, client_id=f"{settings.worker_id}-content", linger_ms=50
    )
    return ContentRecorder(producer, clock=clock, limits=settings.contents)


def _channels(settings: GatewaySettings, signer: TokenSigner) -> tuple[GrpcChannel, ...]:
    """To accounts, billing, usage and its live process, catalog and jobs, each connected when it is
    first used.
    """
    addresses = (
        settings.accounts_address,
        settings.billing_address,
        settings.usage_address,
        settings.usage_live_address,
        settings.catalog_address,
        settings.jobs_address,
    )
    return tuple(
        GrpcChannel(address, signer, default_timeout_s=settings.read_timeout_s)
        for address in addresses
    )


class Worker:
    """The order of a worker's life: recover, read, serve; then refuse, finish, give back."""

    def __init__(self, settings: GatewaySettings, state: GatewayState, money: Money) -> None:
        self._settings = settings
        self._state = state
        self._money = money
        self._recovered = False
        self._drained = False
        self._draining = False
        self._serving = False
        self._up = asyncio.Event()
        self.public: PublicServer | None = None
        self.runner: JobRunner | None = None
        checks = {
            **{name: self._part(name) for name in state.freshness.parts()},
            "recovered": lambda: self._recovered,
            "serving": lambda: self._serving,
            "log": lambda: state.freshness.stale_for_s() <= settings.stale_max_s,
            **money.checks(),
        }
        self.ops = OpsServer(settings.ops_listen, checks)

    def not_ready(self) -> list[str]:
        """The names of what is missing."""
        return self.ops.not_ready()

    async def serve(self) -> None:
        """Replays the write-ahead file, reads the topics to their end, then serves."""
        assert self.public is not None
        await asyncio.to_thread(tokens.warm_up)
        await self._money.recover()
        self._recovered = True
        await self._state.wait_ready()
        if not self._draining:
            await self.public.start()
            self._serving = True
            self._up.set()
            _log.info("serving", port=self.public.port, worker_id=self._settings.worker_id)
            await self.public.run()

    async def run_jobs(self) -> None:
        """Runs items of jobs, once requests are served."""
        assert self.runner is not None
        await self._up.wait()
        await self.runner.run()

    async def stop_serving(self) -> None:
        """Says that it is not ready, then accepts no more and lets what is under way finish."""
        assert self.public is not None
        self._draining = True
        self.ops.drain()
        await asyncio.sleep(self._settings.drain_notice_s)
        await self.public.stop()

    async def drain_money(self) -> None:
        """After the last request."""
        self._drained = await self._money.drain(timeout_s=MONEY_DRAIN_S)

    async def close_journal(self) -> None:
        """After the last event."""
        await self._money.close(drained=self._drained)

    def _part(self, name: str) -> Callable[[], bool]:
        return lambda: self._state.freshness.parts()[name]


async def _drained(quotas: LeasedQuotas) -> None:
    """After the last request. What is not returned in time stays counted in its window."""
    with suppress(TimeoutError):
        async with asyncio.timeout(QUOTA_DRAIN_S):
            await quotas.drain()


async def _given_up(runner: JobRunner) -> None:
    """Items that are not put back in time are run again when their leases have run out."""
    with suppress(TimeoutError):
        async with asyncio.timeout(QUOTA_DRAIN_S):
            await runner.drain()


async def _close_all(session: aiohttp.ClientSession, *channels: GrpcChannel) -> None:
    await session.close()
    for channel in channels:
        await channel.close()
