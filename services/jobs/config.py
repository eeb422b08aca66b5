"""The jobs service's settings, read from the environment in `__main__` and passed down."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort


class JobsSettings(CommonSettings):
    """What the jobs service reads beside the common settings."""

    model_config = SettingsConfigDict(env_prefix="MESH_JOBS_")

    dsn: SecretStr = Field(SecretStr("postgresql:///jobs"), description="PostgreSQL.")
    pool_size_max: int = Field(10, ge=1, le=200)
    grpc_listen: HostPort = HostPort("127.0.0.1:8205")
    ops_listen: HostPort = HostPort("127.0.0.1:8215")
    sweep_every_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="How often to give up what has expired and forget what need not be kept.",
    )
