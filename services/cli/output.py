"""What commands print: a table for people, JSON (one object a line) for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.common.money import usd_from_nanousd

# A row is shown as its values' text; JSON keeps numbers as numbers.
Value = str | int | float | bool | None | Sequence[str] | Mapping[str, str]
Row = Mapping[str, Value]


def console() -> Console:
    """Standard output, as wide as the terminal (or unbounded when it is no terminal)."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def text(value: Value) -> str:
    """A cell: empty for nothing, `yes`/`no` for truth values."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(value)
    return str(value)


def plain(value: str) -> Text:
    """A text of somebody else as it is: no markup, and nothing that steers the terminal."""
    return Text("".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in value))


def show_rows(rows: Sequence[Row], *, as_json: bool, nothing: str = "nothing to show") -> None:
    """Rows with the same keys, as a table or as JSON lines."""
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        print(nothing, file=sys.stderr)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float) for row in rows)
        money = name.endswith("_usd")
        table.add_column(name.replace("_", " "), justify="right" if numeric or money else "left",
                         no_wrap=name.endswith("_id"), overflow="fold")  # fmt: skip
    for row in rows:
        table.add_row(*(plain(text(value)) for value in row.values()))
    console().print(table)


def show_one(row: Row, *, as_json: bool) -> None:
    """One thing, a line a field."""
    if as_json:
        print(json.dumps(row, ensure_ascii=False))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), plain(text(value)))
    console().print(table)


def moment(unix_ms: int) -> str:
    """A time as ISO 8601 in UTC with milliseconds; empty for 0, which means never."""
    if unix_ms == 0:
        return ""
    stamp = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"


def usd(amount_nanousd: int) -> str:
    """Dollars, exact."""
    return usd_from_nanousd(amount_nanousd)
