"""Settings of the accounts service."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort


class AccountsSettings(CommonSettings):
    """What the accounts service reads from its environment."""

    model_config = SettingsConfigDict(env_prefix="MESH_ACCOUNTS_")

    dsn: SecretStr = Field(description="PostgreSQL, for instance postgresql:///accounts?host=/run")
    grpc_listen: HostPort = Field(
        default=HostPort("127.0.0.1:8201"), description="Where the gRPC API is served."
    )
    ops_listen: HostPort = Field(
        default=HostPort("127.0.0.1:8211"), description="Where health and metrics are served."
    )
    pool_size_max: int = Field(default=10, ge=3, le=200, description="Connections to PostgreSQL.")
    session_lifetime_s: int = Field(
        default=14 * 86_400, ge=60, le=90 * 86_400, description="How long a log-in lasts."
    )
    invitation_lifetime_s: int = Field(
        default=7 * 86_400, ge=60, le=90 * 86_400, description="How long an invitation can be used."
    )
    argon2_time_cost: int = Field(default=3, ge=1, le=20, description="Passes over the memory.")
    argon2_memory_kib: int = Field(
        default=65_536, ge=8, le=1_048_576, description="Memory of one password hash."
    )
    argon2_threads: int = Field(default=2, ge=1, le=32, description="Hashes made at once.")
    argon2_waiting_max: int = Field(
        default=64, ge=1, description="Log-ins that may wait for a hash; more are turned away."
    )
    attempts_max: int = Field(
        default=10, ge=1, description="Log-ins per address and window before it has to wait."
    )
    attempts_window_s: float = Field(default=900.0, gt=0, description="Length of that window.")
    attempts_subjects_max: int = Field(
        default=100_000, ge=1, description="Addresses that are remembered; bounds the memory."
    )
    drain_s: float = Field(default=10.0, gt=0, description="How long calls may take at a stop.")
