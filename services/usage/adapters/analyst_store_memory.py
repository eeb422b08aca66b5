"""Analysts in memory."""

from __future__ import annotations

from services.usage.domain.analyst import Analyst


class MemoryAnalystStore:
    """An AnalystStore for tests."""

    def __init__(self) -> None:
        self._analysts: dict[str, Analyst] = {}

    async def analysts(self) -> list[Analyst]:
        return list(self._analysts.values())

    async def save(self, analyst: Analyst) -> None:
        self._analysts[analyst.analyst_id] = analyst
