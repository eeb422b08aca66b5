"""A few random kills under load; `make chaos KILLS=200` does many."""

from __future__ import annotations

import pytest

from tests.chaos.run import ChaosRun


@pytest.mark.stack
@pytest.mark.timeout(300)
async def test_after_random_kills_under_load_every_invariant_of_the_books_holds() -> None:
    run = ChaosRun(kills=6, seed=20)
    report = await run.run()
    assert report.violations == [], f"data and logs: {run.folder}"
    assert report.kills.total() == 6
    assert report.endings["complete"] > 0
    assert report.billed_nanousd > 0
    assert report.samples > 0
