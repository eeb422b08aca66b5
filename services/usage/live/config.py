"""Settings of the live process, from variables that begin with MESH_USAGE_LIVE_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort


class LiveSettings(CommonSettings):
    """What `python -m services.usage.live` reads."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_USAGE_LIVE_", frozen=True, extra="ignore", validate_by_name=True,
        validate_by_alias=True, validate_default=True,
    )  # fmt: skip

    grpc_listen: HostPort = Field(
        default=HostPort("127.0.0.1:8206"), description="gRPC address of the live windows."
    )
    ops_listen: HostPort = Field(
        default=HostPort("127.0.0.1:8216"), description="Health, readiness and metrics."
    )
    group: str = Field(
        default="mesh-usage-live",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Consumer group; each process needs one of its own, and reads everything.",
    )
    series_max: int = Field(
        default=50_000, ge=1, description="Keys and models kept apart, of all accounts together."
    )
    watchers_max: int = Field(default=256, ge=1, description="Streams at the same time.")
    shutdown_grace_s: float = Field(
        default=5.0, gt=0, description="Seconds that calls under way get at the end."
    )
