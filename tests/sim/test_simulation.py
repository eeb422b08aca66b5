"""A few seeds of the simulator and a few mutants; `make sim` and `make sim-mutants` run more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.mutants import hunt
from tests.sim.simulation import run_seed

_DIGEST = "from tests.sim.simulation import run_seed; print(run_seed(11).digest)"


# Seeds that found something once.
FOUND_SOMETHING = (568, 3536, 3906, 11396, 12111)


@pytest.mark.parametrize("seed", [*range(1, 31), *FOUND_SOMETHING])
def test_a_seed_keeps_every_invariant(seed: int) -> None:
    result = run_seed(seed)
    assert not result.violation, "\n".join([result.violation, *result.trace])
    assert result.requests


@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [
        ("cap_without_grants", "grant_within_cap"),
        ("team_left_out_of_a_moved_key", "grant_scopes"),
        ("usage_not_deduplicated", "once_per_cause"),
        ("delivered_before_acknowledged", "event_for_each"),
    ],
)
def test_a_mutant_is_caught(mutant: str, invariant: str) -> None:
    _, result = hunt(mutant)
    assert result is not None
    assert result.invariant == invariant
    assert result.trace


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_runs_the_same_way_in_every_process(hash_seed: str) -> None:
    other = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    assert other.stdout.strip() == run_seed(11).digest
