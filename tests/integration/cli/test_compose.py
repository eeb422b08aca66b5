"""The compose file against the settings classes, and the example file against the compose file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from ruamel.yaml import YAML

from scripts import settings_doc
from services.cli.check_config import SERVICES, settings_class
from services.common.config import load_settings

ROOT = Path(__file__).parents[3]
SET = {
    "MESH_SERVICE_SECRET": "s" * 40,
    "MESH_POSTGRES_PASSWORD": "p",
    "MESH_CLICKHOUSE_PASSWORD": "c",
    "MESH_CATALOG_CREDENTIAL_KEY": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
    "MESH_USAGE_LIVE_SECRET_KEY": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
}


def filled(text: str) -> str:
    """The value as Compose would pass it on where only the required variables are set."""

    def value(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        return SET.get(name, rest if how == ":-" else "")

    return settings_doc.INTERPOLATION.sub(value, text)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_of_the_compose_file_starts_with_settings_that_are_valid(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any: a document of Compose.
    document: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
    for name, value in document["services"][service.replace(".", "-")]["environment"].items():
        monkeypatch.setenv(name, filled(str(value)))
    settings = load_settings(settings_class(service))
    assert getattr(settings, "env") == "production"  # noqa: B009 - a field of every class of ours


@pytest.mark.parametrize(
    "given",
    [
        {
            "MESH_DASHBOARD_SMTP_URL": "smtps://mesh:p@mail.example.com",
            "MESH_DASHBOARD_MAIL_FROM": "M <m@b.c>",
        },
        {
            "MESH_DASHBOARD_OIDC_ISSUER": "https://id.example.com",
            "MESH_DASHBOARD_OIDC_CLIENT_ID": "mesh",
            "MESH_DASHBOARD_OIDC_CLIENT_SECRET": "s",
            "MESH_DASHBOARD_OIDC_SCOPES": "openid email",
            "MESH_DASHBOARD_OIDC_NAME": "Example ID",
        },
        {"MESH_DASHBOARD_OPERATORS": "ada@example.com", "MESH_DASHBOARD_SECURE_COOKIES": "true"},
    ],
    ids=["mail", "log-in provider", "staff"],
)
def test_what_an_installation_chooses_for_its_panel_reaches_it_through_the_compose_file(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any: a document of Compose.
    document: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
    for name, value in given.items():
        monkeypatch.setitem(SET, name, value)
    for name, value in document["services"]["dashboard"]["environment"].items():
        monkeypatch.setenv(name, filled(str(value)))
    settings = load_settings(settings_class("dashboard"))
    for name, value in given.items():
        found = getattr(settings, name.removeprefix("MESH_DASHBOARD_").lower())
        shown = found.get_secret_value() if isinstance(found, SecretStr) else str(found)
        assert shown.lower() == value.lower()


def test_the_example_says_what_each_variable_of_the_compose_file_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    page = settings_doc.page()
    variables = settings_doc.compose_variables((ROOT / "docker-compose.yml").read_text())
    assert variables["MESH_GATEWAY_PORT"] == (":-", "8080")
    for name, (how, _) in variables.items():
        assert re.search(rf"^{'' if how == ':?' else '# '}{name}=", page, re.MULTILINE), name


def test_the_example_holds_neither_secrets_nor_paths_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    page = settings_doc.page()
    assert str(ROOT) not in page
    assert "never-in-production" not in page
    names = re.findall(r"^(?:# )?(MESH_\w+)=", page, re.MULTILINE)
    assert len(names) == len(set(names))


def test_a_meaning_is_the_description_or_the_comment_directly_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    lines = settings_doc.page().splitlines()
    described = lines.index("# MESH_DASHBOARD_SECURE_COOKIES=false")
    assert lines[described - 1] == "# Set where the panel is served over HTTPS."
    commented = lines.index("# MESH_GATEWAY_LISTEN=127.0.0.1:8080")
    assert lines[commented - 1] == "# The public address; several workers may listen on one."
