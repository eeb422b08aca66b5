"""What the pipeline tells of prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.gateway.usage_entry import UsageEntry


class Contents(Protocol):
    """Who may want to keep what was asked and answered."""

    def note(self, entry: UsageEntry, answer: Sequence[str]) -> None:
        """Takes note of a request that has its usage event. Never waits and never raises."""


class _NoContents:
    """Keeps nothing, as an operator has it who says nothing."""

    def note(self, entry: UsageEntry, answer: Sequence[str]) -> None:
        """Forgets it."""


NO_CONTENTS: Contents = _NoContents()
