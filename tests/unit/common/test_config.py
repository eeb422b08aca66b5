"""Settings and how a bad environment is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.config import (
    DEVELOPMENT_SECRET,
    CommonSettings,
    HostPort,
    SettingsError,
    load_settings,
)

SECRET = "a secret of more than thirty-two characters"


class ExampleSettings(CommonSettings):
    """The settings of a service as any has them."""

    model_config = SettingsConfigDict(env_prefix="MESH_EXAMPLE_")

    dsn: SecretStr
    grpc_listen: HostPort = HostPort("127.0.0.1:8299")
    batch_max: int = 100


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MESH_ENV", "MESH_LOG_LEVEL", "MESH_LOG_FORMAT", "MESH_KAFKA_BOOTSTRAP",
        "MESH_SERVICE_SECRET",
        "MESH_TRACE_EXPORTER", "MESH_TRACE_FILE", "MESH_OTLP_ENDPOINT", "MESH_SECRETS_DIR",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def test_common_and_own_variables_are_read_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_KAFKA_BOOTSTRAP", "kafka:9093")
    monkeypatch.setenv("MESH_EXAMPLE_DSN", "postgresql://somewhere")
    monkeypatch.setenv("MESH_EXAMPLE_GRPC_LISTEN", "[::1]:0")
    settings = load_settings(ExampleSettings)
    assert settings.kafka_bootstrap == "kafka:9093"
    assert (settings.kafka_bootstrap.host, settings.kafka_bootstrap.port) == ("kafka", 9093)
    assert (settings.grpc_listen.host, settings.grpc_listen.port) == ("::1", 0)
    assert settings.dsn.get_secret_value() == "postgresql://somewhere"
    assert settings.env == "development"


def test_every_bad_variable_is_named_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_LOG_LEVEL", "loud-value")
    monkeypatch.setenv("MESH_EXAMPLE_BATCH_MAX", "many-value")
    monkeypatch.setenv("MESH_EXAMPLE_GRPC_LISTEN", "8299")
    with pytest.raises(SettingsError) as caught:
        load_settings(ExampleSettings)
    text = str(caught.value)
    for variable in (
        "MESH_LOG_LEVEL: ", "MESH_EXAMPLE_BATCH_MAX: ", "MESH_EXAMPLE_DSN: ",
        "MESH_EXAMPLE_GRPC_LISTEN: not an address",
    ):  # fmt: skip
        assert variable in text
    assert "loud-value" not in text
    assert "many-value" not in text


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"MESH_ENV": "production"}, "MESH_SERVICE_SECRET: must be set"),
        ({"MESH_SERVICE_SECRET": "short"}, "MESH_SERVICE_SECRET: has fewer than 32"),
        (
            {"MESH_ENV": "production", "MESH_SERVICE_SECRET": DEVELOPMENT_SECRET},
            "MESH_SERVICE_SECRET: must be set",
        ),
        ({"MESH_TRACE_EXPORTER": "file"}, "MESH_TRACE_FILE: must be set"),
        ({"MESH_TRACE_EXPORTER": "otlp"}, "MESH_OTLP_ENDPOINT: must be set"),
    ],
)
def test_unsafe_and_incomplete_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        load_settings(CommonSettings)


def test_production_takes_a_secret_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_ENV", "production")
    monkeypatch.setenv("MESH_SERVICE_SECRET", SECRET)
    settings = load_settings(CommonSettings)
    assert settings.is_production
    assert SECRET not in repr(settings)


def test_secrets_may_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mesh_service_secret").write_text(SECRET)
    (tmp_path / "mesh_example_dsn").write_text("postgresql://file")
    monkeypatch.setenv("MESH_SECRETS_DIR", str(tmp_path))
    settings = load_settings(ExampleSettings)
    assert settings.service_secret.get_secret_value() == SECRET
    assert settings.dsn.get_secret_value() == "postgresql://file"


def test_settings_can_be_made_by_field_names() -> None:
    settings = ExampleSettings(env="test", dsn=SecretStr("x"), kafka_bootstrap=HostPort("k:1"))
    assert (settings.env, settings.kafka_bootstrap) == ("test", "k:1")


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:x", "host:65536", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        HostPort(text)
