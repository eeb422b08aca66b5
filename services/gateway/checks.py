"""Small checks of JSON values that collect what is wrong instead of stopping at the first fault.

Types and words of the faults follow Pydantic's, which is what the SDKs' users know from FastAPI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.common.errors import FieldError, InvalidArgument

Loc = tuple[str | int, ...]
FAULTS_MAX = 20


class Faults:
    """What was found wrong so far; of `count` faults at most `FAULTS_MAX` are told."""

    __slots__ = ("count", "found")

    def __init__(self) -> None:
        self.found: list[FieldError] = []
        self.count = 0

    def add(self, loc: Loc, kind: str, message: str) -> None:
        self.count += 1
        if len(self.found) < FAULTS_MAX:
            self.found.append(FieldError(loc, message, kind))

    def raise_if_any(self) -> None:
        """Raises InvalidArgument, whose message names the first field."""
        if self.found:
            first = self.found[0]
            name = ".".join(str(part) for part in first.loc[1:]) or "body"
            raise InvalidArgument(f"{name}: {first.msg}", details=self.found)


# Any: the value is whatever JSON the caller sent; the check says whether it is what it should be.
Check = Callable[[Faults, Loc, Any], None]


def number(low: float | None, high: float | None, *, above: bool = False) -> Check:
    """A number between the bounds, both included; `above` leaves out the lower one."""

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        if isinstance(value, bool) or not isinstance(value, int | float):
            faults.add(loc, "float_type", "Input should be a valid number")
        elif low is not None and (value <= low if above else value < low):
            word = "greater_than" if above else "greater_than_equal"
            phrase = "greater than" if above else "greater than or equal to"
            faults.add(loc, word, f"Input should be {phrase} {low:g}")
        elif high is not None and value > high:
            faults.add(loc, "less_than_equal", f"Input should be less than or equal to {high:g}")

    return check


def integer(low: int | None, high: int | None) -> Check:
    """A whole number between the bounds; 3.0 counts as one."""
    bounds = number(low, high)

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            faults.add(loc, "int_type", "Input should be a valid integer")
        else:
            bounds(faults, loc, value)

    return check


def text(length_max: int, *, length_min: int = 0) -> Check:
    """A string of bounded length."""

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        if not isinstance(value, str):
            faults.add(loc, "string_type", "Input should be a valid string")
        elif len(value) > length_max:
            faults.add(
                loc, "string_too_long", f"String should have at most {length_max} characters"
            )
        elif len(value) < length_min:
            faults.add(
                loc, "string_too_short", f"String should have at least {length_min} characters"
            )

    return check


def boolean(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
    if not isinstance(value, bool):
        faults.add(loc, "bool_type", "Input should be a valid boolean")


def mapping(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
    if not isinstance(value, dict):
        faults.add(loc, "dict_type", "Input should be a valid object")


def one_of(*allowed: str) -> Check:
    """One of these strings."""
    wording = " or ".join(f"'{name}'" for name in allowed)

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        if value not in allowed or not isinstance(value, str):
            faults.add(loc, "literal_error", f"Input should be {wording}")

    return check


def listed(item: Check, *, items_max: int, items_min: int = 0) -> Check:
    """A list of bounded length whose items all pass."""

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        if not isinstance(value, list):
            faults.add(loc, "list_type", "Input should be a valid list")
        elif not items_min <= len(value) <= items_max:
            kind = "too_short" if len(value) < items_min else "too_long"
            faults.add(loc, kind, f"List should have {items_min} to {items_max} items")
        else:
            for place, entry in enumerate(value):
                item(faults, (*loc, place), entry)

    return check


def text_map(*, entries_max: int, key_max: int, value_max: int) -> Check:
    """An object whose values are strings, bounded in every direction."""

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        if not isinstance(value, dict):
            faults.add(loc, "dict_type", "Input should be a valid object")
        elif len(value) > entries_max:
            faults.add(loc, "too_long", f"Object should have at most {entries_max} entries")
        else:
            for key, entry in value.items():
                if len(key) > key_max:
                    faults.add(loc, "string_too_long", f"Names have at most {key_max} characters")
                text(value_max)(faults, (*loc, key), entry)

    return check


def either(*checks: Check) -> Check:
    """Passes where one of the checks does; otherwise the faults of the last one."""

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        attempt = Faults()
        for candidate in checks:
            attempt = Faults()
            candidate(attempt, loc, value)
            if not attempt.found:
                return
        for fault in attempt.found:
            faults.add(fault.loc, fault.type, fault.msg)

    return check


def fields(
    known: Mapping[str, Check], *, required: tuple[str, ...] = (), open_ended: bool = True
) -> Check:
    """An object whose known fields pass; null is absent. Other fields are let by unless it is
    closed.
    """

    def check(faults: Faults, loc: Loc, value: Any) -> None:  # Any: JSON
        if not isinstance(value, dict):
            faults.add(loc, "dict_type", "Input should be a valid object")
            return
        for name in required:
            if value.get(name) is None:
                faults.add((*loc, name), "missing", "Field required")
        for name, entry in value.items():
            rule = known.get(name)
            if rule is not None:
                if entry is not None:
                    rule(faults, (*loc, name), entry)
            elif not open_ended:
                faults.add((*loc, name), "extra_forbidden", "Extra inputs are not permitted")

    return check
