"""What a break and an item of the checklist are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """One way to break production code; `tests` are pytest's names of those that must notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, source: str) -> str:
        """The text, broken. Raises ValueError where it does not have `old` exactly once."""
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file} has {self.old!r} {found} times: {self.what}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Item:
    """One requirement of a server that official SDKs work with, and how it is broken."""

    name: str
    breaks: tuple[Break, ...]
