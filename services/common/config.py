"""Settings: what every service reads from its environment, and how a bad environment is reported.

A service's settings class inherits `CommonSettings` and sets its own `env_prefix`; the common
fields keep their `MESH_` names because each is bound to its variable by name. Secrets may also come
from files named like the variables in the directory that MESH_SECRETS_DIR names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, GetCoreSchemaHandler, SecretStr, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema
from pydantic_settings import BaseSettings, SettingsConfigDict

DEVELOPMENT_SECRET = "mesh-development-secret-never-in-production"  # noqa: S105
SECRET_LENGTH_MIN = 32


class HostPort(str):
    """An address `host:port`; IPv6 hosts stand in brackets, port 0 means "any free port" where one
    listens.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"not an address of the form host:port: {value!r}")
        return super().__new__(cls, value)

    @property
    def host(self) -> str:
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])

    @classmethod
    def __get_pydantic_core_schema__(
        cls,
        source: Any,
        handler: GetCoreSchemaHandler,
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class SettingsError(Exception):
    """The environment does not make valid settings; the text names each variable that is wrong."""


class CommonSettings(BaseSettings):
    """What every process of the product reads."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_",
        frozen=True,
        extra="ignore",
        validate_by_name=True,
        validate_by_alias=True,
        validate_default=True,
    )

    env: Literal["development", "test", "production"] = Field(
        default="development", validation_alias="MESH_ENV"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", validation_alias="MESH_LOG_LEVEL"
    )
    log_format: Literal["json", "console"] = Field(
        default="json", validation_alias="MESH_LOG_FORMAT"
    )
    kafka_bootstrap: HostPort = Field(
        default=HostPort("127.0.0.1:9092"), validation_alias="MESH_KAFKA_BOOTSTRAP"
    )
    service_secret: SecretStr = Field(
        default=SecretStr(DEVELOPMENT_SECRET), validation_alias="MESH_SERVICE_SECRET"
    )
    trace_exporter: Literal["none", "otlp", "file"] = Field(
        default="none", validation_alias="MESH_TRACE_EXPORTER"
    )
    trace_file: Path | None = Field(default=None, validation_alias="MESH_TRACE_FILE")
    otlp_endpoint: str = Field(default="", validation_alias="MESH_OTLP_ENDPOINT")
    accounts_address: HostPort = Field(
        default=HostPort("127.0.0.1:8201"), validation_alias="MESH_ACCOUNTS_ADDRESS"
    )
    billing_address: HostPort = Field(
        default=HostPort("127.0.0.1:8202"), validation_alias="MESH_BILLING_ADDRESS"
    )
    usage_address: HostPort = Field(
        default=HostPort("127.0.0.1:8203"), validation_alias="MESH_USAGE_ADDRESS"
    )
    usage_live_address: HostPort = Field(
        default=HostPort("127.0.0.1:8206"), validation_alias="MESH_USAGE_LIVE_ADDRESS"
    )
    catalog_address: HostPort = Field(
        default=HostPort("127.0.0.1:8204"), validation_alias="MESH_CATALOG_ADDRESS"
    )
    jobs_address: HostPort = Field(
        default=HostPort("127.0.0.1:8205"), validation_alias="MESH_JOBS_ADDRESS"
    )
    # What people ask and are answered is nobody's business unless both sides want it kept.
    content_stored: bool = Field(default=False, validation_alias="MESH_CONTENT_STORED")

    @property
    def is_production(self) -> bool:
        return self.env == "production"

    @model_validator(mode="after")
    def _common_rules(self) -> Self:
        secret = self.service_secret.get_secret_value()
        if len(secret) < SECRET_LENGTH_MIN:
            raise ValueError(f"MESH_SERVICE_SECRET: has fewer than {SECRET_LENGTH_MIN} characters")
        if self.is_production and secret == DEVELOPMENT_SECRET:
            raise ValueError("MESH_SERVICE_SECRET: must be set where MESH_ENV=production")
        if self.trace_exporter == "file" and self.trace_file is None:
            raise ValueError("MESH_TRACE_FILE: must be set where MESH_TRACE_EXPORTER=file")
        if self.trace_exporter == "otlp" and not self.otlp_endpoint:
            raise ValueError("MESH_OTLP_ENDPOINT: must be set where MESH_TRACE_EXPORTER=otlp")
        return self


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load_settings(cls: type[SettingsT]) -> SettingsT:
    """The settings of the environment; raises SettingsError naming every variable that is wrong,
    never its value.
    """
    secrets_dir = os.environ.get("MESH_SECRETS_DIR")
    try:
        return cls(_secrets_dir=secrets_dir)
    except ValidationError as error:
        lines = [_line(cls, item["loc"], item["msg"]) for item in error.errors(include_input=False)]
        raise SettingsError("invalid settings:\n  " + "\n  ".join(sorted(lines))) from None


def _line(cls: type[BaseSettings], loc: tuple[int | str, ...], message: str) -> str:
    if not loc:
        return message.removeprefix("Value error, ")
    name, *inner = (str(part) for part in loc)
    variable = ".".join([variable_of(cls, name), *inner])
    return f"{variable}: {message.removeprefix('Value error, ')}"


def variable_of(cls: type[BaseSettings], field: str) -> str:
    """The environment variable that a field (or its alias) is read from."""
    info = cls.model_fields.get(field)
    if info is None:
        return field.upper()
    if isinstance(info.validation_alias, str):
        return info.validation_alias
    return f"{cls.model_config.get('env_prefix', '')}{field}".upper()
