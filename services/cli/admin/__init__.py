"""`mesh admin`: the gRPC admin API for people and scripts, one module a group of commands."""

from __future__ import annotations

from cyclopts import App

from services.cli.admin import (
    accounts,
    alerts,
    analysts,
    billing,
    catalog,
    contents,
    keys,
    limits,
    logs,
    templates,
    tokens,
)

# Beside those of `catalog`: they are commands of `providers` once they are there.
from services.cli.admin import credentials as _credentials  # noqa: F401

app = App(
    name="admin",
    help="Accounts, credit, keys, limits, teams, models, providers, templates, logs.",
)
for group in (accounts.app, alerts.app, analysts.app, billing.balances, billing.grants,
              catalog.models, catalog.providers, contents.app, keys.app, limits.app, limits.teams,
              logs.app, templates.app):  # fmt: skip
    app.command(group)
app.command(billing.credit, name="credit")
app.command(tokens.token, name="token")
