"""The environment of the catalog: what is read, and what is refused without being repeated."""

from __future__ import annotations

import base64

import pytest

from services.catalog.adapters.known_providers import KNOWN_PROVIDERS
from services.catalog.config import CatalogSettings
from services.common.config import SettingsError, load_settings, variable_of
from tests.unit.catalog.builders import CREDENTIAL, KEY


def test_every_known_provider_can_get_its_credential_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for known in KNOWN_PROVIDERS:
        name = known.provider_id.replace("-", "_").upper()
        monkeypatch.setenv(f"MESH_PROVIDER_{name}_CREDENTIAL", f"{CREDENTIAL}-{name}")
    given = load_settings(CatalogSettings).provider_credentials()
    assert set(given) == {known.provider_id for known in KNOWN_PROVIDERS}
    assert given[KNOWN_PROVIDERS[0].provider_id] == f"{CREDENTIAL}-OPENAI"
    fields = [name for name in CatalogSettings.model_fields if name.endswith("_credential")]
    assert len(fields) == len(KNOWN_PROVIDERS)
    assert variable_of(CatalogSettings, "x_ai_credential") == "MESH_PROVIDER_X_AI_CREDENTIAL"


def test_an_empty_credential_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PROVIDER_OPENAI_CREDENTIAL", "")
    assert load_settings(CatalogSettings).provider_credentials() == {}


@pytest.mark.parametrize("value", ["not base64!", "c2hvcnQ="])
def test_a_key_that_is_not_32_bytes_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MESH_CATALOG_CREDENTIAL_KEY", value)
    with pytest.raises(SettingsError, match="MESH_CATALOG_CREDENTIAL_KEY") as refused:
        load_settings(CatalogSettings)
    assert value not in str(refused.value)


def test_production_needs_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_ENV", "production")
    monkeypatch.setenv("MESH_SERVICE_SECRET", "s" * 40)
    with pytest.raises(SettingsError, match="MESH_CATALOG_CREDENTIAL_KEY"):
        load_settings(CatalogSettings)
    monkeypatch.setenv("MESH_CATALOG_CREDENTIAL_KEY", base64.b64encode(KEY).decode())
    assert load_settings(CatalogSettings).key_bytes() == KEY


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", ""),
        ("http://127.0.0.1:8300", "http://127.0.0.1:8300/v1"),
        ("http://127.0.0.1:8300/", "http://127.0.0.1:8300/v1"),
        ("http://127.0.0.1:8300/v1", "http://127.0.0.1:8300/v1"),
    ],
)
def test_the_local_model_may_be_named_by_its_server(
    monkeypatch: pytest.MonkeyPatch, given: str, read: str
) -> None:
    monkeypatch.setenv("MESH_LOCAL_MODEL_URL", given)
    assert load_settings(CatalogSettings).local_model_url == read


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_LOCAL_MODEL_URL", "127.0.0.1:8300")
    with pytest.raises(SettingsError, match="MESH_LOCAL_MODEL_URL"):
        load_settings(CatalogSettings)
