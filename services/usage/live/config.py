"""Settings of the live process, from variables that begin with MESH_USAGE_LIVE_."""

from __future__ import annotations

import base64
import binascii
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort

KEY_BYTES = 32
DEVELOPMENT_SECRET_KEY = base64.b64encode(b"mesh-development-webhooks-key-32").decode()


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
    dsn: SecretStr | None = Field(
        default=None,
        description="PostgreSQL, for alerts; without it there are the live windows alone.",
    )
    secret_key: SecretStr = Field(
        default=SecretStr(DEVELOPMENT_SECRET_KEY),
        description="Encrypts the secrets of webhooks: 32 bytes in base64.",
    )
    webhook_private_allowed: bool = Field(
        default=False,
        description="Whether webhooks may go to addresses of the deployment's own network.",
    )
    group: str = Field(
        default="mesh-usage-live",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="What the names of its consumer groups begin with; each start has a new one.",
    )
    series_max: int = Field(
        default=50_000, ge=1, description="Keys and models kept apart, of all accounts together."
    )
    watchers_max: int = Field(default=256, ge=1, description="Streams at the same time.")
    shutdown_grace_s: float = Field(
        default=5.0, gt=0, description="Seconds that calls under way get at the end."
    )

    @field_validator("dsn", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("secret_key")
    @classmethod
    def _key_of_the_right_size(cls, value: SecretStr) -> SecretStr:
        try:
            key = base64.b64decode(value.get_secret_value(), validate=True)
        except binascii.Error as error:
            raise ValueError("is not base64") from error
        if len(key) != KEY_BYTES:
            raise ValueError(f"must be {KEY_BYTES} bytes in base64, not {len(key)}")
        return value

    @model_validator(mode="after")
    def _own_key_in_production(self) -> Self:
        own = self.secret_key.get_secret_value() != DEVELOPMENT_SECRET_KEY
        if self.is_production and self.dsn is not None and not own:
            raise ValueError("MESH_USAGE_LIVE_SECRET_KEY: must be set where MESH_ENV=production")
        return self
