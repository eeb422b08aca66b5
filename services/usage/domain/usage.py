"""The names that the log uses for what a usage event says in numbers, and what it refuses."""

from __future__ import annotations

from services.common.errors import InvalidArgument

# Names of `mesh.events.v1.RequestOutcome` by number; a number that is not here is kept as
# `unknown_<number>`.
OUTCOMES = (
    "unspecified",
    "success",
    "refused",
    "upstream_error",
    "client_gone",
    "limit_reached",
    "crashed",
)
# Names of `mesh.events.v1.UsageBasis` by number.
USAGE_BASES = ("unspecified", "provider", "tokenizer", "none")

_UNKNOWN = "unknown_"


def name_of(number: int, names: tuple[str, ...]) -> str:
    """The name of an enum's number; never fails, because a newer gateway may know more numbers."""
    return names[number] if 0 <= number < len(names) else f"{_UNKNOWN}{number}"


def number_of(name: str, names: tuple[str, ...]) -> int:
    """The number that `name_of` named; 0 where the name is none of ours."""
    if name in names:
        return names.index(name)
    digits = name.removeprefix(_UNKNOWN)
    return int(digits) if name.startswith(_UNKNOWN) and digits.lstrip("-").isdigit() else 0


class BadUsage(InvalidArgument):
    """A usage event that cannot be a row: it names no request, or its figures are impossible."""
