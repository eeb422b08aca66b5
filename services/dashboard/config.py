"""Settings of the dashboard."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort


class DashboardSettings(CommonSettings):
    """What the dashboard reads from its environment."""

    model_config = SettingsConfigDict(env_prefix="MESH_DASHBOARD_")

    listen: HostPort = Field(
        default=HostPort("127.0.0.1:8090"), description="Where the panel is served."
    )
    ops_listen: HostPort = Field(
        default=HostPort("127.0.0.1:8190"), description="Where health and metrics are served."
    )
    public_api_url: str = Field(
        default="http://127.0.0.1:8080",
        description="The gateway's address as the panel's readers reach it, without /v1.",
    )
    gateway_url: str = Field(
        default="",
        description="The gateway's address as the panel itself reaches it; empty: the public one.",
    )
    secure_cookies: bool = Field(
        default=False, description="Set where the panel is served over HTTPS."
    )
    web_dir: Path = Field(
        default=Path(__file__).parent / "web" / "dist",
        description="The built page.",
        exclude=True,
    )
    call_timeout_s: float = Field(
        default=10.0, gt=0, description="How long a call to another service may take."
    )
