"""The check of an analyst's statement refuses whatever it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from services.usage.domain.analyst_functions import functions_from
from services.usage.domain.analyst_sql import SqlRefused, SqlRules, check_format

FUNCTIONS = functions_from(
    [
        ("sum", "", "Aggregate Functions", True),
        ("lower", "", "String", False),
        ("lcase", "lower", "", False),
        ("file", "", "Other", False),
        ("slurp", "file", "", False),
        ("newfangled", "", "Quantum", False),
        ("mixed", "", "String,Quantum", False),
    ]
)
RULES = SqlRules("analytics", frozenset({"requests"}), frozenset({"model_id"}), FUNCTIONS)


def select(*nodes: object, **keys: object) -> dict[str, Any]:  # Any: a parsed tree
    query = {"type": "SelectQuery", "select": {"type": "ExpressionList", "children": list(nodes)}}
    selects = {"type": "ExpressionList", "children": [query]}
    return {"type": "SelectWithUnionQuery", "list_of_selects": selects, **keys}


def function(name: str) -> dict[str, Any]:  # Any: a parsed tree
    return {"type": "Function", "name": name, "arguments": {"type": "ExpressionList"}}


@pytest.mark.parametrize("name", ["sum", "SUM", "sumIf", "sumOrNullIf", "lcase", "lambda"])
def test_a_function_that_computes_may_be_called(name: str) -> None:
    assert RULES.check(select(function(name))) == ""


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("file", 497), ("FILE", 497), ("slurp", 497), ("fileIf", 46), ("lowerIf", 46),
        ("newfangled", 497), ("mixed", 497), ("nothing", 46), ("", 46), ("If", 46),
    ],
)  # fmt: skip
def test_any_other_function_is_refused(name: str, code: int) -> None:
    with pytest.raises(SqlRefused) as refused:
        RULES.check(select(function(name)))
    assert refused.value.code == code


@pytest.mark.parametrize(
    "node",
    [
        {"type": "SomethingNew"},
        {},
        {"type": "SetQuery", "changes": []},
        {"type": "QueryParameter", "name": "x", "param_type": "Identifier"},
        {"type": "ColumnsApplyTransformer", "func_name": "file"},
        {"type": "Identifier", "name": "file"},
        {"type": "Identifier", "name": ""},
        {"type": "TableIdentifier", "name": "other.requests", "name_parts": ["other", "requests"]},
        {"type": "TableExpression", "table_function": function("url")},
        {"type": "TableExpression", "table_function": {"type": "Function"}},
        {"type": "Subquery", "children": [select(out_file={"type": "Literal"})]},
        {
            "type": "Subquery",
            "children": [select(format_ast={"type": "Identifier", "name": "CSV"})],
        },
    ],
)
def test_any_other_part_of_a_statement_is_refused(node: dict[str, object]) -> None:
    with pytest.raises(SqlRefused):
        RULES.check(select(node))


@pytest.mark.parametrize("kind", ["InsertQuery", "UseQuery", "ExplainQuery", "SetRoleQuery", None])
def test_any_other_kind_of_statement_is_refused(kind: str | None) -> None:
    with pytest.raises(SqlRefused) as refused:
        RULES.check({"type": kind})
    assert refused.value.code == 164


def test_a_statement_of_too_many_parts_is_refused() -> None:
    with pytest.raises(SqlRefused) as refused:
        RULES.check(select(*({"type": "Literal"} for _ in range(20_001))))
    assert refused.value.code == 306


def test_the_format_is_told_and_one_with_files_is_refused() -> None:
    named = select(function("sum"), format_ast={"type": "Identifier", "name": "JSONEachRow"})
    assert RULES.check(named) == "JSONEachRow"
    assert check_format("RowBinaryWithNamesAndTypes") == "RowBinaryWithNamesAndTypes"
    for name in ("Template", "Protobuf", "CapnProto", "", "Native; SET ROLE ALL"):
        with pytest.raises(SqlRefused):
            check_format(name)
