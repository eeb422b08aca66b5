"""`mesh check-config`: validates the settings of every service and exits."""

from __future__ import annotations

import importlib
import sys
from typing import Literal, get_args

from pydantic_settings import BaseSettings

from services.common.config import SettingsError, load_settings

Service = Literal[
    "accounts", "billing", "catalog", "jobs", "usage", "usage.live", "gateway", "dashboard"
]  # fmt: skip
SERVICES: tuple[Service, ...] = get_args(Service)


def settings_class(service: str) -> type[BaseSettings]:
    """The one settings class of a service's config module."""
    module = importlib.import_module(f"services.{service}.config")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseSettings)
        and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"services/{service}/config.py has {len(found)} settings classes"
    return found[0]


def check_config(*services: Service) -> None:
    """Says for each service whether the environment is complete and sane; exits 1 where it is not.

    Parameters
    ----------
    services
        Which to check; default: all.
    """
    failed = False
    for service in services or SERVICES:
        try:
            load_settings(settings_class(service))
        except SettingsError as error:
            failed = True
            print(f"{service}: {error}", file=sys.stderr)
        else:
            print(f"{service}: ok")
    if failed:
        sys.exit(1)
