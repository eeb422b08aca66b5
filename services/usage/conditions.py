"""What a principal may see and what it asked for, as conditions of SQL.

The same filter is a predicate over a row in `domain/filter.py`; a contract test holds the two
together. Values travel as parameters; only names of our own columns are in the text.
"""

from __future__ import annotations

from typing import Any

from services.common.errors import InvalidArgument
from services.usage.domain.filter import FILTER_COLUMNS, RequestFilter, Scope

# A month of requests never shares a sorting key with another month, so partitions need no merging
# for FINAL.
FINAL_BY_MONTH = " SETTINGS do_not_merge_across_partitions_select_final = 1"


# Parameters are typed Any because the client takes whatever its types can carry.
def where(scope: Scope, wanted: RequestFilter) -> tuple[str, dict[str, Any]]:
    """The conditions and their parameters; the account always is one of them."""
    if not scope.account_id:
        raise InvalidArgument.of("principal", "names no account")
    conditions = ["account_id = {account_id:String}"]
    parameters: dict[str, Any] = {"account_id": scope.account_id}

    def add(condition: str, **values: object) -> None:
        conditions.append(condition)
        parameters.update(values)

    if scope.key_id:
        add("key_id = {own_key_id:String}", own_key_id=scope.key_id)
    if wanted.since_ms:
        since = "received_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')"
        add(since, since_ms=wanted.since_ms)
    if wanted.until_ms:
        until = "received_at < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')"
        add(until, until_ms=wanted.until_ms)
    for name, values in wanted.any_of.items():
        assert name in FILTER_COLUMNS, name
        kind = "Int32" if name == "http_status" else "String"
        add(f"{name} IN {{{name}:Array({kind})}}", **{name: sorted(values, key=str)})
    for number, (tag, value) in enumerate(sorted(wanted.tags.items())):
        has = f"mapContains(tags, {{tag{number}:String}})"
        equal = f"tags[{{tag{number}:String}}] = {{tag_value{number}:String}}"
        add(f"{has} AND {equal}", **{f"tag{number}": tag, f"tag_value{number}": value})
    if wanted.trace_id:
        add("trace_id = {trace_id:String}", trace_id=wanted.trace_id)
    if wanted.max_latency_ms:
        add("latency_ms <= {max_latency:Int64}", max_latency=wanted.max_latency_ms)
    if wanted.max_cost_nanousd:
        add("cost_nanousd <= {max_cost:Int64}", max_cost=wanted.max_cost_nanousd)
    if wanted.min_latency_ms:
        add("latency_ms >= {min_latency:Int64}", min_latency=wanted.min_latency_ms)
    if wanted.min_cost_nanousd:
        add("cost_nanousd >= {min_cost:Int64}", min_cost=wanted.min_cost_nanousd)
    return " AND ".join(conditions), parameters


def behind(
    conditions: str, parameters: dict[str, Any], after: tuple[int, str]
) -> tuple[str, dict[str, Any]]:
    """The conditions of what comes behind a key (Unix milliseconds and usage id), newest first."""
    conditions += (
        " AND received_at <= fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC')"
        " AND (received_at, usage_id) <"
        " (fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC'), {after_id:String})"
    )
    return conditions, parameters | {"after_ms": after[0], "after_id": after[1]}
