"""What a token stands for is remembered for less than a second, and refusals not at all."""

from __future__ import annotations

import pytest

from services.common.clock import FakeClock
from services.common.errors import Unauthorized
from services.gateway.recent import REMEMBERED_MAX, REMEMBERED_S, Recent


class Counted:
    """Answers with how often it was asked; nothing for who is barred."""

    def __init__(self) -> None:
        self.asked = 0
        self.barred: set[str] = set()

    async def ask(self, token: str) -> int:
        self.asked += 1
        if token in self.barred:
            raise Unauthorized("no")
        return self.asked


async def test_a_token_is_asked_for_once_a_while_and_refused_within_a_second_of_its_end() -> None:
    clock, source = FakeClock(), Counted()
    recent = Recent(source.ask, clock)
    assert [await recent.get("a") for _ in range(100)] == [1] * 100
    assert await recent.get("b") == 2
    source.barred.add("a")
    await clock.advance(REMEMBERED_S)
    with pytest.raises(Unauthorized):
        await recent.get("a")
    assert REMEMBERED_S < 1.0


async def test_a_refusal_is_asked_for_again() -> None:
    source = Counted()
    source.barred.add("a")
    recent = Recent(source.ask, FakeClock())
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await recent.get("a")
    source.barred.clear()
    assert await recent.get("a") == 3


async def test_only_so_many_are_remembered() -> None:
    source = Counted()
    recent = Recent(source.ask, FakeClock())
    for number in range(REMEMBERED_MAX + 1):
        await recent.get(str(number))
    assert await recent.get("1") == 2
    assert await recent.get("0") == REMEMBERED_MAX + 2
