"""The gateway's settings: `MESH_GATEWAY_*`, beside the common ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort
from services.gateway.budget.limits import BudgetLimits
from services.gateway.contents.limits import ContentLimits
from services.gateway.jobs.limits import RunnerLimits
from services.gateway.journal.limits import MIB, JournalLimits
from services.gateway.metering import EstimateRules
from services.gateway.providers.http import PoolLimits
from services.gateway.providers.port import UpstreamLimits
from services.gateway.quota.limits import QuotaLimits
from services.gateway.routing_policy import (
    ATTEMPTS_MAX,
    BASE_MS_MAX,
    RETRIES_MAX,
    RoutingPolicy,
)

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class GatewaySettings(CommonSettings):
    """One worker. Times are seconds, sizes bytes, money nano-dollars."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_GATEWAY_", frozen=True, extra="ignore", validate_by_name=True,
        validate_by_alias=True, validate_default=True,
    )  # fmt: skip

    # The public address; several workers may listen on one.
    listen: HostPort = HostPort("127.0.0.1:8080")
    ops_listen: HostPort = HostPort("127.0.0.1:8180")
    # Unique among the workers that are up; keeps its name over restarts, with its directory.
    worker_id: str = Field("gateway-0", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    wal_dir: Path = Path("var/gateway-0")

    backlog: int = Field(2_048, ge=1)
    body_bytes_max: int = Field(32 * 1024 * 1024, ge=1)
    body_timeout_s: Seconds = 60.0
    header_bytes_max: int = Field(64 * 1024, ge=1024)
    keep_alive_s: int = Field(75, ge=1)
    # After SIGTERM: how long new connections are still served as "not ready", and how long streams
    # may go on.
    drain_notice_s: float = Field(0.0, ge=0, le=60)
    grace_s: Seconds = 20.0
    # How long the worker goes on without hearing from the log before it fails closed.
    stale_max_s: Seconds = 60.0

    upstream_connect_s: Seconds = 5.0
    upstream_first_byte_s: Seconds = 120.0
    upstream_idle_s: Seconds = 60.0
    upstream_total_s: Seconds = 300.0
    upstream_connections: int = Field(1_000, ge=1)
    upstream_connections_per_host: int = Field(500, ge=1)
    upstream_keep_alive_s: Seconds = 15.0

    # For keys without a policy of their own: retries at one place and their first pause, and
    # attempts in all.
    retry_max: int = Field(2, ge=0, le=RETRIES_MAX)
    retry_base_ms: int = Field(200, ge=1, le=BASE_MS_MAX)
    attempts_max: int = Field(4, ge=1, le=ATTEMPTS_MAX)

    estimate_safety_factor: float = Field(1.3, ge=1, le=10)
    estimate_output_tokens: int = Field(4_096, ge=1)
    estimate_output_tokens_least: int = Field(16, ge=1)
    # Held at once of an answer whose length the caller does not bound; grows by as much.
    estimate_output_tokens_slice: int = Field(512, ge=16)

    # Answers kept in memory for the same question of the same account; 0 bytes keeps none.
    cache_bytes_max: int = Field(64 * MIB, ge=0)
    cache_ttl_s: Seconds = 86_400.0

    read_timeout_s: Seconds = 5.0

    # Of prompt and answer each, of what is kept of a request where MESH_CONTENT_STORED allows it;
    # and what may wait for the log before more is dropped.
    content_bytes_max: int = Field(64 * 1024, ge=256, le=256 * 1024)
    content_waiting_bytes_max: int = Field(16 * MIB, ge=MIB)

    # All segments of the write-ahead file together; the reserve is for requests already let in.
    wal_bytes_max: int = Field(1024 * MIB, ge=4 * MIB)
    wal_reserve_bytes: int = Field(32 * MIB, ge=0)
    wal_segment_bytes: int = Field(32 * MIB, ge=MIB)
    # How long a request waits for money before it is refused.
    place_deadline_s: Seconds = 2.0
    # A grant that nobody holds from for this long goes back; how many seconds of spend one is for.
    grant_idle_s: Seconds = 5.0
    grant_horizon_s: Seconds = 3.0

    # A lease of requests that nothing was taken from for this long goes back; how many seconds of
    # traffic one is for; for how long a limit that is used up is refused without asking.
    quota_idle_s: Seconds = 0.5
    quota_horizon_s: Seconds = 3.0
    quota_gone_s: Seconds = 1.0

    # Items of batches and of responses in the background: how many this worker runs at once (0:
    # none), for how long one is its own, and how often it asks for more while there is none.
    jobs_parallel: int = Field(4, ge=0, le=256)
    jobs_lease_s: float = Field(30.0, ge=1, le=600)
    jobs_poll_s: float = Field(1.0, ge=0.01, le=60)

    @property
    def upstream(self) -> UpstreamLimits:
        return UpstreamLimits(
            connect_s=self.upstream_connect_s,
            first_byte_s=self.upstream_first_byte_s,
            idle_s=self.upstream_idle_s,
            total_s=self.upstream_total_s,
        )

    @property
    def contents(self) -> ContentLimits:
        return ContentLimits(
            bytes_max=self.content_bytes_max, waiting_bytes_max=self.content_waiting_bytes_max
        )

    @property
    def routing(self) -> RoutingPolicy:
        return RoutingPolicy(
            max_retries=self.retry_max,
            base_ms=self.retry_base_ms,
            max_attempts=self.attempts_max,
        )

    @property
    def journal(self) -> JournalLimits:
        return JournalLimits(
            total_bytes=self.wal_bytes_max,
            reserve_bytes=self.wal_reserve_bytes,
            segment_bytes=self.wal_segment_bytes,
        )

    @property
    def budget(self) -> BudgetLimits:
        return BudgetLimits(
            place_deadline_s=self.place_deadline_s,
            idle_s=self.grant_idle_s,
            horizon_s=self.grant_horizon_s,
        )

    @property
    def quota(self) -> QuotaLimits:
        return QuotaLimits(
            place_deadline_s=self.place_deadline_s,
            idle_s=self.quota_idle_s,
            horizon_s=self.quota_horizon_s,
            gone_s=self.quota_gone_s,
        )

    @model_validator(mode="after")
    def _journal_fits(self) -> Self:
        if self.wal_bytes_max < self.wal_reserve_bytes + 2 * self.wal_segment_bytes:
            raise ValueError("wal_bytes_max must hold the reserve and two segments")
        return self

    @property
    def runner(self) -> RunnerLimits:
        return RunnerLimits(
            parallel=self.jobs_parallel, lease_s=self.jobs_lease_s, poll_s=self.jobs_poll_s
        )

    @property
    def pool(self) -> PoolLimits:
        return PoolLimits(
            connections=self.upstream_connections,
            connections_per_host=self.upstream_connections_per_host,
            keep_alive_s=self.upstream_keep_alive_s,
        )

    @property
    def estimates(self) -> EstimateRules:
        return EstimateRules(
            safety_factor=self.estimate_safety_factor,
            output_tokens_default=self.estimate_output_tokens,
            output_tokens_least=self.estimate_output_tokens_least,
            output_tokens_slice=self.estimate_output_tokens_slice,
        )
