"""Several statements of one transaction in one round trip.

PostgreSQL's protocol answers one statement at a time; the statements of a small transaction cost
less than the ways to and fro between them. Here each becomes a data-modifying part of one `WITH`.
They must not depend on what the others write: all see the same snapshot, and their order is open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import asyncpg

_PLACE = re.compile(r"\$(\d+)")

# A statement that ends where a RETURNING could stand, or a SELECT, and its parameters.
Statement = tuple[str, Sequence[object]]


def columns_of(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """Rows as the arrays of a statement that unnests them."""
    return [list(column) for column in zip(*rows, strict=True)]


async def execute_together(
    connection: asyncpg.Connection, statements: Sequence[Statement]
) -> list[int]:
    """How many rows each wrote (or, for a SELECT, gave). Texts should be few: each combination is
    prepared once a connection.
    """
    parts, arguments = [], list[object]()
    for number, (text, values) in enumerate(statements):
        parts.append(f"s{number} AS MATERIALIZED ({_moved(text, len(arguments))})")
        arguments += values
    counts = ", ".join(f"(SELECT count(*) FROM s{one})" for one in range(len(parts)))  # noqa: S608 - numbers
    row = await connection.fetchrow(f"WITH {', '.join(parts)} SELECT {counts}", *arguments)
    assert row is not None
    return [int(count) for count in row.values()]


def _moved(text: str, by: int) -> str:
    text = _PLACE.sub(lambda found: f"${int(found[1]) + by}", text.strip())
    return text if text.startswith("SELECT") else f"{text} RETURNING 1"
