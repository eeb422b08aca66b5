"""The views that analysts query, made anew in a database of their own at each start.

On the embedded engine a view runs as the user `mesh_views`, whom a row policy shows the rows of
the session's account alone; on a server it runs as whoever asks, who has a policy of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

from services.usage.adapters.clickhouse import ClickHouse

VIEWS_USER = "mesh_views"


@dataclass(frozen=True, slots=True)
class View:
    """One file of `services/usage/analytics`: a SELECT over tables of the log."""

    name: str
    text: str

    @property
    def bases(self) -> frozenset[str]:
        """The tables that it reads."""
        return frozenset(re.findall(r"\{base\}\.(\w+)", self.text))

    def statement(self, *, base: str, database: str, as_views_user: bool) -> str:
        """What makes it."""
        definer = f"DEFINER = {VIEWS_USER} SQL SECURITY DEFINER"
        security = definer if as_views_user else "SQL SECURITY INVOKER"
        select = self.text.replace("{base}", base)
        return f"CREATE OR REPLACE VIEW {database}.{self.name} {security} AS {select}"


def views() -> list[View]:
    """All of them, by name."""
    files = resources.files("services.usage.analytics").iterdir()
    sql = [entry for entry in files if entry.name.endswith(".sql")]
    found = [
        View(entry.name[:-4], _uncommented(entry.read_text(encoding="utf-8"))) for entry in sql
    ]
    return sorted(found, key=lambda view: view.name)


def base_tables() -> list[str]:
    """The tables behind the views."""
    return sorted(frozenset().union(*(view.bases for view in views())))


async def make_views(store: ClickHouse, *, database: str, as_views_user: bool) -> list[str]:
    """Makes those whose tables there are, and gives their names."""
    rows = await store.query("SELECT name FROM system.tables WHERE database = currentDatabase()")
    tables = {name for (name,) in rows}
    await store.command("CREATE DATABASE IF NOT EXISTS {d:Identifier}", {"d": database})
    made = []
    for view in views():
        if view.bases <= tables:
            statement = view.statement(
                base=store.database, database=database, as_views_user=as_views_user
            )
            await store.command(statement)
            made.append(view.name)
    return made


def _uncommented(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))
