"""The catalog's settings, read from the environment in `__main__` and passed down."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.catalog.domain.settings import checked_base_url
from services.common.config import CommonSettings, HostPort
from services.common.errors import InvalidArgument
from services.common.ids import ProviderId

CREDENTIAL_KEY_BYTES = 32
# For one machine's experiments; refused in production, where whoever knows it could read the table.
DEVELOPMENT_CREDENTIAL_KEY = base64.b64encode(
    hashlib.sha256(b"mesh-development-credential-key-never-in-production").digest()
).decode()


def _credential(
    provider: str,
) -> Any:  # Any: pydantic's Field stands for the value of whatever type its annotation says
    return Field(
        None,
        validation_alias=f"MESH_PROVIDER_{provider}_CREDENTIAL",
        description="Stored at start, encrypted; a new value becomes a new version.",
    )


class CatalogSettings(CommonSettings):
    """What the catalog reads beside the common settings."""

    model_config = SettingsConfigDict(env_prefix="MESH_CATALOG_")

    dsn: SecretStr = Field(SecretStr("postgresql:///catalog"), description="PostgreSQL.")
    pool_size_max: int = Field(10, ge=1, le=200)
    grpc_listen: HostPort = HostPort("127.0.0.1:8204")
    ops_listen: HostPort = HostPort("127.0.0.1:8214")
    credential_key: SecretStr = Field(
        SecretStr(DEVELOPMENT_CREDENTIAL_KEY),
        description="Encrypts the credentials of providers: 32 bytes in base64.",
    )
    seed_prices: bool = Field(True, description="Whether to take models from genai-prices.")
    due_prices_poll_s: float = Field(
        5.0, gt=0, le=3600, description="How often to look for prices that came into force."
    )
    local_model_url: str = Field(
        "",
        validation_alias="MESH_LOCAL_MODEL_URL",
        description="The OpenAI-compatible base URL of the local model; empty: there is none.",
    )

    anthropic_credential: SecretStr | None = _credential("ANTHROPIC")
    avian_credential: SecretStr | None = _credential("AVIAN")
    aws_credential: SecretStr | None = _credential("AWS")
    baseten_credential: SecretStr | None = _credential("BASETEN")
    cerebras_credential: SecretStr | None = _credential("CEREBRAS")
    cohere_credential: SecretStr | None = _credential("COHERE")
    deepseek_credential: SecretStr | None = _credential("DEEPSEEK")
    fireworks_credential: SecretStr | None = _credential("FIREWORKS")
    google_credential: SecretStr | None = _credential("GOOGLE")
    groq_credential: SecretStr | None = _credential("GROQ")
    minimax_credential: SecretStr | None = _credential("MINIMAX")
    mistral_credential: SecretStr | None = _credential("MISTRAL")
    moonshotai_credential: SecretStr | None = _credential("MOONSHOTAI")
    novita_credential: SecretStr | None = _credential("NOVITA")
    openai_credential: SecretStr | None = _credential("OPENAI")
    openrouter_credential: SecretStr | None = _credential("OPENROUTER")
    ovhcloud_credential: SecretStr | None = _credential("OVHCLOUD")
    perplexity_credential: SecretStr | None = _credential("PERPLEXITY")
    together_credential: SecretStr | None = _credential("TOGETHER")
    x_ai_credential: SecretStr | None = _credential("X_AI")
    zai_credential: SecretStr | None = _credential("ZAI")

    @field_validator("credential_key")
    @classmethod
    def _key_of_the_right_size(cls, value: SecretStr) -> SecretStr:
        try:
            key = base64.b64decode(value.get_secret_value(), validate=True)
        except binascii.Error as error:
            raise ValueError("is not base64") from error
        if len(key) != CREDENTIAL_KEY_BYTES:
            raise ValueError(f"must be {CREDENTIAL_KEY_BYTES} bytes in base64, not {len(key)}")
        return value

    @field_validator("local_model_url")
    @classmethod
    def _url_with_its_version(cls, value: str) -> str:
        if not value:
            return ""
        try:
            url = checked_base_url(value)
        except InvalidArgument as error:
            raise ValueError(error.details[0].msg) from error
        # The server's own address will do: the routes are below /v1.
        return url if url.count("/") > 2 else f"{url}/v1"

    @model_validator(mode="after")
    def _own_key_in_production(self) -> Self:
        if self.is_production and self.credential_key.get_secret_value() == (
            DEVELOPMENT_CREDENTIAL_KEY
        ):
            raise ValueError("MESH_CATALOG_CREDENTIAL_KEY: must be set where MESH_ENV=production")
        return self

    def key_bytes(self) -> bytes:
        """The decoded credential key."""
        return base64.b64decode(self.credential_key.get_secret_value())

    def provider_credentials(self) -> dict[ProviderId, str]:
        """The plain credentials that the environment holds, by provider; empty ones are none."""
        suffix = "_credential"
        given = {
            name.removesuffix(suffix).replace("_", "-"): getattr(self, name)
            for name in type(self).model_fields
            if name.endswith(suffix)
        }
        return {
            ProviderId(provider_id): secret.get_secret_value()
            for provider_id, secret in given.items()
            if secret is not None and secret.get_secret_value()
        }
