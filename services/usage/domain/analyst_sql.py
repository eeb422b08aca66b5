"""Which statements an analyst may run, told from the tree that the engine's own parser made.

The engine enforces who may read which rows; this is what it has no privilege for: functions that
read files or tell of the server, table functions, system tables, other kinds of statements. What
is not known to be harmless is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Codes of ClickHouse's errors, so that its clients say what they say to a server.
ACCESS_DENIED = (497, "ACCESS_DENIED")
READONLY = (164, "READONLY")
TOO_DEEP = (306, "TOO_DEEP_RECURSION")
UNKNOWN_FORMAT = (73, "UNKNOWN_FORMAT")
UNKNOWN_FUNCTION = (46, "UNKNOWN_FUNCTION")
UNKNOWN_TABLE = (60, "UNKNOWN_TABLE")

NODES_MAX = 20_000

_NODE_TYPES = frozenset(
    {
        "SelectWithUnionQuery", "SelectIntersectExceptQuery", "SelectQuery", "ExpressionList",
        "Asterisk", "QualifiedAsterisk", "ColumnsRegexpMatcher", "ColumnsListMatcher",
        "QualifiedColumnsRegexpMatcher", "QualifiedColumnsListMatcher", "ColumnsTransformerList",
        "ColumnsApplyTransformer", "ColumnsExceptTransformer", "ColumnsReplaceTransformer",
        "ColumnsReplaceTransformer::Replacement", "TablesInSelectQuery",
        "TablesInSelectQueryElement", "TableExpression", "TableIdentifier", "TableJoin",
        "ArrayJoin", "SampleRatio", "Subquery", "WithElement", "Identifier", "Literal", "Function",
        "QueryParameter", "OrderByElement", "InterpolateElement", "WindowDefinition",
        "WindowListElement", "DataType", "NameTypePair",
    }
)  # fmt: skip
_SYSTEM_TABLES = frozenset(
    {
        "one", "numbers", "databases", "tables", "columns", "functions", "settings", "formats",
        "data_type_families", "table_engines", "keywords", "time_zones", "collations",
        "aggregate_function_combinators", "current_roles", "enabled_roles",
    }
)  # fmt: skip
_INFORMATION_SCHEMA = frozenset({"tables", "columns", "schemata", "views"})
_TABLE_FUNCTIONS = frozenset(
    {"numbers", "zeros", "values", "null", "generateseries", "generate_series"}
)
_FORMATS = re.compile(
    r"Native|Values|Vertical|XML|Markdown|Null|Parquet|Arrow|ArrowStream|ORC|SQLInsert"
    r"|RowBinary(WithNames|WithNamesAndTypes)?"
    r"|(CSV|TSV|TSVRaw|TabSeparated|TabSeparatedRaw)(WithNames|WithNamesAndTypes)?"
    r"|JSON(Strings|Columns|ColumnsWithMetadata|Lines|EachRow|StringsEachRow|Compact\w*|ObjectEachRow)?"
    r"|Pretty\w*|NDJSON|MsgPack|LineAsString|TSKV"
)
_COMBINATORS = (
    "If", "Array", "Map", "SimpleState", "State", "Merge", "MergeState", "ForEach", "Distinct",
    "OrDefault", "OrNull", "Resample", "ArgMin", "ArgMax", "Null",
)  # fmt: skip
# Keys of a SELECT that carry nothing but what the tree below them says.
_SELECT_KEYS = frozenset(
    {"type", "union_mode", "list_of_modes", "list_of_selects", "format_ast", "settings_ast"}
)


class SqlRefused(Exception):
    """A statement that an analyst may not run: a code and name of ClickHouse's, and why."""

    def __init__(self, kind: tuple[int, str], message: str) -> None:
        super().__init__(message)
        self.code, self.name = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Functions:
    """Names in lower case: those that may be called, and all that the engine knows.

    Names of aggregate functions may carry combinators (`sumIf`), which no list has.
    """

    allowed: frozenset[str]
    known: frozenset[str]
    aggregates: frozenset[str] = frozenset()

    def is_allowed(self, name: str) -> bool:
        """True where the function may be called."""
        return name.lower() in self.allowed or self._is_combined(name)

    def _is_combined(self, name: str) -> bool:
        rests = [name.removesuffix(end) for end in _COMBINATORS if name.endswith(end)]
        return any(
            rest and (rest.lower() in self.aggregates or self._is_combined(rest)) for rest in rests
        )


@dataclass(frozen=True, slots=True)
class SqlRules:
    """What the analysts' database has, and which functions there are."""

    database: str
    views: frozenset[str]
    columns: frozenset[str]
    functions: Functions

    def check(self, tree: Mapping[str, Any]) -> str:
        """The output format that the statement names ("" where it names none). Raises SqlRefused
        for a statement that may not be run.
        """
        match tree:
            case {"type": "SelectWithUnionQuery"}:
                return _Walk(self).select(tree)
            case {"type": "ShowTablesQuery"}:
                return self._show_tables(tree)
            case _:
                raise SqlRefused(READONLY, "Only SELECT, SHOW TABLES and DESCRIBE may be run")

    def check_describe(self, lines: list[str]) -> None:
        """For what `EXPLAIN AST` says of a DESCRIBE. Raises SqlRefused unless it is of a view."""
        head, *rest = lines
        table = re.fullmatch(r"  TableIdentifier (\S+)", rest[1]) if len(rest) == 2 else None
        if not head.startswith("DescribeQuery (children 1)") or table is None:
            raise SqlRefused(READONLY, "Only SELECT, SHOW TABLES and DESCRIBE may be run")
        self.check_name(table[1].split("."), is_table=True)

    def _show_tables(self, tree: Mapping[str, Any]) -> str:
        for key, value in tree.items():
            if key in ("type", "databases", "like", "not_like", "case_insensitive_like"):
                continue
            if key == "from" and value.get("name") in (self.database, "system"):
                continue
            if value is not False:
                raise SqlRefused(ACCESS_DENIED, f"SHOW with {key} may not be run")
        return ""

    def check_name(self, parts: list[str], *, is_table: bool) -> None:
        """Raises SqlRefused for a name of a table, or of a column, that is none of ours."""
        first = parts[0].lower()
        if len(parts) == 1:
            hidden = first in self.functions.known and not self.functions.is_allowed(first)
            # Functions take the names of functions, too: arrayMap(file, ['a']).
            if hidden and not is_table and first not in self.columns:
                raise SqlRefused(ACCESS_DENIED, f"{parts[0]} is the name of a function that may"
                                 " not be called; choose another name")  # fmt: skip
            return
        second = parts[1]
        if first == "system":
            allowed = second in _SYSTEM_TABLES
        elif first == "information_schema":
            allowed = second.lower() in _INFORMATION_SCHEMA
        elif first == self.database.lower():
            allowed = second in self.views
        else:
            # A column of an alias; as a table it would be in another database.
            allowed = not is_table
        if not allowed:
            raise SqlRefused(ACCESS_DENIED, f"{'.'.join(parts[:2])} may not be read")


@dataclass(slots=True)
class _Walk:
    """One look at every node of a tree."""

    rules: SqlRules
    left: int = NODES_MAX
    waiting: list[Mapping[str, Any]] = field(default_factory=list)

    def select(self, root: Mapping[str, Any]) -> str:
        """The format that the statement names."""
        named = root.get("format_ast")
        self._select_keys(root, top=True)
        self._push(value for key, value in root.items() if key != "format_ast")
        while self.waiting:
            self._node(self.waiting.pop())
        return check_format(str(named["name"])) if named else ""

    def _push(self, values: Iterable[object]) -> None:
        """Notes the nodes among the values, however deep in lists and plain objects they are."""
        pending = list(values)
        while pending:
            value = pending.pop()
            if isinstance(value, list):
                pending += value
            elif isinstance(value, dict):
                self.left -= 1
                if self.left < 0:
                    raise SqlRefused(TOO_DEEP, f"The statement has more than {NODES_MAX} parts")
                self.waiting.append(value)

    def _node(self, node: Mapping[str, Any]) -> None:
        kind = node.get("type")
        if kind == "SetQuery":
            # Those of a subquery the engine would take without asking whether they may be changed.
            raise SqlRefused(READONLY, "Settings may not be changed in a statement")
        if kind not in _NODE_TYPES:
            raise SqlRefused(ACCESS_DENIED, f"A statement with {kind} may not be run")
        match kind:
            case "Literal":
                return
            case "SelectWithUnionQuery":
                self._select_keys(node, top=False)
            case "Function":
                self._function(str(node.get("name", "")))
            case "ColumnsApplyTransformer":
                if node.get("func_name"):
                    self._function(str(node["func_name"]))
            case "TableExpression":
                self._table(node)
                return
            case "TableIdentifier":
                self.rules.check_name(_parts(node), is_table=True)
            case "Identifier":
                self.rules.check_name(_parts(node), is_table=False)
            case "QueryParameter":
                if node.get("param_type") == "Identifier":
                    raise SqlRefused(ACCESS_DENIED, "Identifiers may not be parameters")
        self._push(node.values())

    def _table(self, node: Mapping[str, Any]) -> None:
        function = node.get("table_function")
        if function is not None:
            name = str(function.get("name", ""))
            if name.lower() not in _TABLE_FUNCTIONS:
                raise SqlRefused(ACCESS_DENIED, f"The table function {name} may not be used")
            self._push(value for key, value in function.items() if key != "type")
        self._push(value for key, value in node.items() if key != "table_function")

    def _function(self, name: str) -> None:
        functions = self.rules.functions
        if functions.is_allowed(name):
            return
        if name.lower() in functions.known:
            raise SqlRefused(ACCESS_DENIED, f"The function {name} may not be called")
        raise SqlRefused(UNKNOWN_FUNCTION, f"There is no function {name} for analysts")

    def _select_keys(self, node: Mapping[str, Any], *, top: bool) -> None:
        for key, value in node.items():
            if key not in _SELECT_KEYS and value is not False:
                raise SqlRefused(READONLY, f"A SELECT with {key} may not be run")
            if key == "format_ast" and not top:
                raise SqlRefused(READONLY, "FORMAT stands at the end of a statement alone")


def check_format(name: str) -> str:
    """The name. Raises SqlRefused for a format that is not given out (some read or write files)."""
    if not _FORMATS.fullmatch(name):
        raise SqlRefused(UNKNOWN_FORMAT, f"The format {name} is not offered")
    return name


def _parts(node: Mapping[str, Any]) -> list[str]:
    given = node.get("name_parts") or [str(node.get("name", ""))]
    parts = [piece for part in given for piece in str(part).split(".")]
    if not all(parts):
        raise SqlRefused(ACCESS_DENIED, "A name may not be empty")
    return parts
