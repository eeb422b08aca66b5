"""Settings of the usage service, from variables that begin with MESH_USAGE_."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort


class UsageSettings(CommonSettings):
    """What the usage service reads."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_USAGE_", frozen=True, extra="ignore", validate_by_name=True,
        validate_by_alias=True, validate_default=True,
    )  # fmt: skip

    clickhouse_dsn: SecretStr = Field(
        description="chdb:///path (in this process) or clickhouse://user:password@host:port/db."
    )
    clickhouse_database: str = Field(
        default="mesh",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="The database where the address names none.",
    )
    grpc_listen: HostPort = Field(default=HostPort("127.0.0.1:8203"), description="gRPC address.")
    ops_listen: HostPort = Field(
        default=HostPort("127.0.0.1:8213"), description="Health, readiness and metrics."
    )
    sink_batch_max: int = Field(
        default=20_000,
        ge=1,
        le=100_000,
        description="Requests of a partition in one insert at most.",
    )
    sink_linger_ms: int = Field(
        default=200,
        ge=0,
        le=5_000,
        description="Milliseconds between a partition's inserts; what comes alone does not wait.",
    )
    sink_group: str = Field(
        default="mesh-usage-log", min_length=1, description="Consumer group of the sink."
    )
    dead_letters_max: int = Field(
        default=100, ge=1, description="More undecodable messages within an hour stop the sink."
    )
    retention_days: int = Field(
        default=0, ge=0, description="Days that requests are kept, by whole months; 0: for ever."
    )
    content_retention_days: int = Field(
        default=30,
        ge=1,
        le=3_650,
        description="Days that prompts and answers are kept, where they are stored at all.",
    )
    rollup_every_s: int = Field(
        default=60, ge=1, le=3_600, description="Seconds between looks for days to sum up."
    )
    reconcile_every_s: int = Field(
        default=900, ge=1, le=86_400, description="Seconds between comparisons with the ledger."
    )
    reconcile_settle_s: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Seconds after its end from which an hour is compared with the ledger.",
    )
    exports_max: int = Field(default=4, ge=1, le=64, description="Exports at the same time.")
    readers: int = Field(default=2, ge=1, le=64, description="Queries at the same time.")
    read_timeout_s: int = Field(
        default=10, ge=1, le=300, description="Seconds after which a query is cut off."
    )
    tails_max: int = Field(default=64, ge=1, description="Tails at the same time.")
    tail_queue_max: int = Field(
        default=40_000,
        ge=1,
        description="Requests that a tail may lag behind before it is ended; more than a batch.",
    )
    shutdown_grace_s: float = Field(
        default=10.0, gt=0, description="Seconds that calls under way get at the end."
    )

    sql_listen: HostPort | None = Field(
        default=None,
        description="Where analysts query the embedded engine (ClickHouse's HTTP interface).",
    )
    sql_database: str = Field(
        default="analytics",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="The database of the analysts' views.",
    )
    sql_queries: int = Field(
        default=2, ge=1, le=64, description="Analysts' queries at the same time."
    )
    sql_timeout_s: int = Field(
        default=10, ge=1, le=3600, description="Seconds after which an analyst's query is cut off."
    )
    sql_memory_bytes_max: int = Field(
        default=512 * 1024 * 1024, ge=1024 * 1024, description="Memory of an analyst's query."
    )
    sql_rows_max: int = Field(
        default=1_000_000, ge=5_000, description="Rows of the answer to an analyst."
    )
    sql_bytes_max: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="Bytes of the answer to an analyst."
    )
    sql_threads: int = Field(default=2, ge=1, le=64, description="Threads of an analyst's query.")

    @field_validator("sql_listen", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("clickhouse_dsn")
    @classmethod
    def _known_scheme(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("chdb:///", "clickhouse://")):
            raise ValueError("is neither chdb:///path nor clickhouse://user:password@host:port/db")
        return value
