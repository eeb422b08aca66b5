"""Which of the engine's functions analysts may call: whole categories of those that only compute,
and some names of mixed categories. A function of a category that is new to us is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.usage.domain.analyst_sql import Functions

_CATEGORIES = frozenset(
    {
        "Aggregate Functions", "Arithmetic", "Arrays", "Bit", "Bitmap", "Comparison",
        "Conditional", "Dates and Times", "Distance", "Encoding", "Financial", "Geo", "Hash",
        "IP Address", "JSON", "Logical", "Map", "Mathematical", "Null", "Random Number",
        "Rounding", "String", "String Replacement", "String Search", "String Splitting",
        "Time Window", "Tuple", "Type Conversion", "URL", "UUID",
    }
)  # fmt: skip
# Of those categories, but they tell of the server, run for long or serve no analyst.
_DENIED = frozenset({"aggthrow", "flamegraph", "chdb"})
# Of other categories, or parts of the grammar that the engine has no entry for.
_ALLOWED = frozenset(
    {
        "lambda", "exists", "countdistinct", "grouping", "version", "timezone", "servertimezone",
        "revision", "currentdatabase", "currentuser", "currentroles",
        "currentschemas", "bar", "totypename", "tocolumntypename", "formatreadablesize",
        "formatreadabledecimalsize", "formatreadablequantity", "formatreadabletimedelta",
        "parsetimedelta", "materialize", "identity", "ignore", "transform", "bytesize",
        "rownumberinblock", "rownumberinallblocks", "runningdifference", "neighbor",
        "runningaccumulate", "finalizeaggregation", "initializeaggregation", "isconstant",
        "countdigits", "digits", "getsizeofenumtype", "defaultvalueofargumenttype",
        "defaultvalueoftypename", "variantelement", "varianttype", "visiblewidth", "throwif",
        "indexhint", "getsubcolumn",
    }
)  # fmt: skip


def functions_from(rows: Iterable[tuple[str, str, str, bool]]) -> Functions:
    """The rule from the engine's own list: name, the name that it is an alias of (or ""), its
    categories separated by commas, and whether it aggregates.
    """
    entries = {name.lower(): (alias.lower(), text, bool(agg)) for name, alias, text, agg in rows}
    allowed = set(_ALLOWED)
    aggregates = set()
    for name in entries:
        target = entries[name][0] or name
        _, text, aggregate = entries.get(target, ("", "", False))
        categories = {part.strip() for part in text.split(",")}
        computes = categories <= _CATEGORIES and not {name, target} & _DENIED
        if computes or target in _ALLOWED:
            allowed.add(name)
            if aggregate:
                aggregates.add(name)
    return Functions(frozenset(allowed), frozenset(entries), frozenset(aggregates))
