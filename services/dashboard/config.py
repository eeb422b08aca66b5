"""Settings of the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import CommonSettings, HostPort

# STARTTLS, TLS from the start, no encryption at all (for a relay on one's own machine).
SMTP_SCHEMES = ("smtp", "smtps", "smtp+plain")


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
    public_url: str = Field(
        default="http://127.0.0.1:8090",
        description="The panel's own address as its readers reach it: the links of invitations.",
    )
    smtp_url: SecretStr = Field(
        default=SecretStr(""),
        description=(
            "Sends invitations, for instance smtp://user:password@host:587 (STARTTLS) or smtps://"
            "...; empty: the panel only shows the links."
        ),
    )
    mail_from: str = Field(
        default="Mesh <mesh@localhost>", description="From whom those letters come."
    )
    oidc_issuer: str = Field(
        default="",
        description=(
            "A log-in provider (OpenID Connect), for instance https://accounts.example.com; empty: "
            "people log in with passwords alone. It sends people back to <public URL>"
            "/api/oidc/callback."
        ),
    )
    oidc_client_id: str = Field(default="", description="This panel's name at that provider.")
    oidc_client_secret: SecretStr = Field(
        default=SecretStr(""), description="Its secret there; empty for a public client."
    )
    oidc_scopes: str = Field(
        default="openid email profile", description="What it asks the provider for."
    )
    oidc_name: str = Field(
        default="single sign-on", description="How the button calls it: Continue with ..."
    )
    operators: str = Field(
        default="",
        description=(
            "E-mail addresses of the staff, with commas between; they see the operators' pages. "
            "Each must have its user already: the panel lets nobody sign up with one of them."
        ),
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

    @field_validator("oidc_issuer")
    @classmethod
    def _an_issuer(cls, value: str) -> str:
        parts = urlsplit(value)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if value and not (parts.scheme == "https" or (parts.scheme == "http" and local)):
            raise ValueError("is not an https address (http is for this machine alone)")
        return value

    @model_validator(mode="after")
    def _a_client(self) -> Self:
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("oidc_client_id is needed where oidc_issuer is set")
        return self

    @property
    def staff(self) -> frozenset[str]:
        """The addresses of the staff as accounts writes addresses."""
        return frozenset(one.strip().lower() for one in self.operators.split(",") if one.strip())

    @field_validator("operators")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for one in value.split(","):
            if one.strip() and not all(one.strip().partition("@")):
                raise ValueError(f"{one.strip()!r} is not an e-mail address")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _a_mail_server(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and (urlsplit(url).scheme not in SMTP_SCHEMES or not urlsplit(url).hostname):
            raise ValueError(f"is not an address with a host and one of {', '.join(SMTP_SCHEMES)}")
        return value
