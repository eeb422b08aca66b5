"""Settings of the usage service, from variables that begin with MESH_USAGE_."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort


class UsageSettings(CommonSettings):
    """`clickhouse_dsn` is `chdb:///path` (in this process) or `clickhouse://user:pw@host:port/db`."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_USAGE_", frozen=True, extra="ignore", validate_by_name=True,
        validate_by_alias=True, validate_default=True,
    )  # fmt: skip

    clickhouse_dsn: str
    # Where the address names no database.
    clickhouse_database: str = Field("mesh", pattern=r"^[a-z][a-z0-9_]*$")
    grpc_listen: HostPort = HostPort("127.0.0.1:8203")
    ops_listen: HostPort = HostPort("127.0.0.1:8213")

    # A batch is inserted when it is full or this old. Each insert is a part of the table for the
    # store to merge; a request is in the log about this long after its event.
    sink_batch_max: int = Field(10_000, ge=1, le=100_000)
    sink_linger_ms: int = Field(200, ge=0, le=5_000)
    sink_group: str = Field("mesh-usage-log", min_length=1)
    # More undecodable messages within an hour stop the sink.
    dead_letters_max: int = Field(100, ge=1)

    readers: int = Field(2, ge=1, le=64)
    read_timeout_s: int = Field(10, ge=1, le=300)
    tails_max: int = Field(64, ge=1)
    tail_queue_max: int = Field(1_000, ge=1)
    shutdown_grace_s: float = Field(10.0, gt=0)

    @field_validator("clickhouse_dsn")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(("chdb:///", "clickhouse://")):
            raise ValueError("is neither chdb:///path nor clickhouse://user:password@host:port/db")
        return value
